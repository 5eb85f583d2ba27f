"""As many decoder processes as are needed at a time, and what hands them pictures."""

from __future__ import annotations

import logging
import threading
import weakref
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from common.errors import DecoderFault, EmptyImage, ImageRejected, ImageTooLarge
from common.images import DecodedImage, pixel_gate
from workers.decoders.process import DecoderLost, DecoderOptions, DecoderProcess
from workers.decoders.protocol import Request, Wanted

if TYPE_CHECKING:
    from common.messages import Crop
    from common.settings import Settings

logger = logging.getLogger(__name__)

# Then a process is replaced: what a library may leak stays bounded.
MOST_PICTURES = 5000


# A search with a large picture must not make those with small ones wait.
_MIN_FOR_QUERIES = 4
_MIN_FOR_FILES = 2


def pool_for_queries(settings: Settings, input_size: tuple[int, int], threads: int) -> DecoderPool:
    """The pool of a query worker, which has so many threads for its model."""
    # All cores for one picture, in formats that can use them: it is waited for.
    options = DecoderOptions(input_size, settings.max_image_pixels, threads)
    return DecoderPool(options, max(_MIN_FOR_QUERIES, threads))


def pool_for_files(settings: Settings, input_size: tuple[int, int], threads: int = 1) -> DecoderPool:
    """The pool of a bulk worker, which has so many threads for its model. The files are decoded side by side."""
    return DecoderPool(DecoderOptions(input_size, settings.max_image_pixels), max(_MIN_FOR_FILES, threads))


class DecoderPool:
    """Decodes pictures in other processes, which are started when they are needed and used again.

    A picture whose process dies is tried once more, in another one, and then rejected. May be used from any thread.

    Args:
        options: What the processes are started with.
        processes: The most of them; who finds none free waits.
        most_pictures: After so many a process is replaced.

    Attributes:
        processes: The most of them.
    """

    def __init__(self, options: DecoderOptions, processes: int, *, most_pictures: int = MOST_PICTURES) -> None:
        self._options = options
        self.processes = processes
        self._most_pictures = most_pictures
        self._free = threading.BoundedSemaphore(processes)
        self._gate = pixel_gate()
        self._lock = threading.Lock()
        # The one that was used last is used next: the others stay out of the caches, and the memory that they need
        # for large pictures is not needed many times.
        self._idle: list[DecoderProcess] = []
        # A pool that nobody closes leaves no process and no pipe behind either.
        weakref.finalize(self, _end_all, self._idle)

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def for_files(self, settings: Settings) -> PooledDecoder:
        """A decoder with the limits for files of the library."""
        return PooledDecoder(self, settings.max_file_bytes, "MAX_FILE_BYTES")

    def for_uploads(self, settings: Settings) -> PooledDecoder:
        """A decoder with the limits for uploaded pictures."""
        return PooledDecoder(self, settings.max_upload_bytes, "MAX_UPLOAD_BYTES")

    def prepare(self) -> None:
        """Starts a process, so that the first picture need not wait for it.

        Raises:
            DecoderUnavailable: It does not start.
        """
        with self._free:
            self._give_back(self._take())

    def run(self, request: Request) -> DecodedImage:
        """Has a picture decoded.

        Raises:
            ImageRejected: The picture is at fault.
            DecoderUnavailable: It is not, but no process could decode it.
        """
        with self._free:
            try:
                return self._run(request, self._take())
            except DecoderLost as lost:
                logger.warning("a decoder process was lost: %s", lost.error)
                if not lost.is_worth_a_retry:
                    raise lost.error from lost
            try:
                return self._run(request, DecoderProcess(self._options))
            except DecoderLost as lost:
                logger.warning("a decoder process was lost, by the same picture: %s", lost.error)
                raise lost.error from lost

    def close(self) -> None:
        """Ends the processes that are idle."""
        _end_all(self._idle)

    def _run(self, request: Request, process: DecoderProcess) -> DecodedImage:
        try:
            result = process.decode(request, self._gate.hold)
        except ImageRejected as error:
            if isinstance(error, DecoderFault):
                logger.warning("%s\n%s", error, error.__cause__)
            self._give_back(process)
            raise
        self._give_back(process)
        return result

    def _take(self) -> DecoderProcess:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return DecoderProcess(self._options)

    def _give_back(self, process: DecoderProcess) -> None:
        if process.pictures >= self._most_pictures:
            process.close()
            return
        with self._lock:
            self._idle.append(process)


def _end_all(idle: list[DecoderProcess]) -> None:
    # One at a time and without a lock: others may take from the list and give back to it meanwhile.
    with suppress(IndexError):
        while True:
            idle.pop().close()


class PooledDecoder:
    """A `PictureDecoder` that hands its pictures to a pool.

    Args:
        pool: The pool.
        max_bytes: Largest encoded picture.
        bytes_setting: The setting that it comes from, for the message.
    """

    def __init__(self, pool: DecoderPool, max_bytes: int, bytes_setting: str) -> None:
        self._pool = pool
        self.max_bytes = max_bytes
        self._bytes_setting = bytes_setting

    def decode(self, data: bytes, crop: Crop | None = None, *, thumbnail: bool = True) -> DecodedImage:
        """See `ImageDecoder.decode`.

        Raises:
            ImageRejected: The reason is its message.
            DecoderUnavailable: No process could decode it, and the picture may be a good one.
        """
        self._check(data)
        return self._pool.run(Request(data, Wanted.PIXELS_AND_THUMBNAIL if thumbnail else Wanted.PIXELS, crop))

    def preview(self, data: bytes) -> bytes:
        """See `ImageDecoder.preview`; raises what `decode` does."""
        self._check(data)
        return self._pool.run(Request(data, Wanted.PREVIEW)).thumbnail

    def _check(self, data: bytes) -> None:
        if not data:
            raise EmptyImage
        if len(data) > self.max_bytes:
            raise ImageTooLarge("bytes", len(data), self.max_bytes, self._bytes_setting)
