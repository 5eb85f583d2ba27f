"""Reads and decodes pictures in threads, ahead of the network, in order and with bounded memory."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO

from common.errors import (
    DecoderKilled,
    ImageRejected,
    ImageTooLarge,
    LibraryError,
    UnreadableFile,
    kind_of,
)
from common.gate import Gate
from common.images import DecodedImage, PictureDecoder
from common.library import Library, Location

# Decoded at the model's size a picture is 150 KB and a thumbnail: 64 of them ahead are about 10 MB.
LOOK_AHEAD = 64
# Files of up to 16 MiB are read as they come, of larger ones so many bytes at a time, but at least one file.
_SMALL_FILE_BYTES = 16 * 2**20
_LARGE_BYTES_IN_FLIGHT = 256 * 2**20


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that was read: its content's hash, and the picture unless the content is stored already."""

    public_path: str
    size: int
    mtime_ns: int
    content_hash: bytes
    image: DecodedImage | None
    read_seconds: float = field(default=0.0, compare=False)
    decode_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be read or decoded, and why.

    Attributes:
        public_path: The file.
        error: What is wrong with it, for people.
        is_lasting: Whether the file itself is at fault, or gone: what was stored of an earlier version no longer
            counts.
        reason: What is wrong with it, one of a few kinds.
    """

    public_path: str
    error: str
    is_lasting: bool = True
    reason: str = field(default="unreadable-file", compare=False)


class FileReader:
    """Reads, hashes and decodes files of the library.

    Args:
        library: Where the files are.
        decoder: The decoder, with the limits for files.
        is_stored: Whether the store has this content (SHA-256): then it is not decoded.
        threads: How many files are read and decoded at a time.
    """

    def __init__(
        self, library: Library, decoder: PictureDecoder, is_stored: Callable[[bytes], bool], *, threads: int = 2
    ) -> None:
        self._library = library
        self._decoder = decoder
        self._is_stored = is_stored
        self._threads = threads
        self._gate = Gate(_LARGE_BYTES_IN_FLIGHT, light=_SMALL_FILE_BYTES)

    def read_ahead(self, public_paths: Sequence[str]) -> Iterator[ReadFile | FailedFile]:
        """Yields the files in order, while the next ones are being read in threads."""
        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            waiting: deque[Future[ReadFile | FailedFile]] = deque()
            try:
                for public_path in public_paths:
                    waiting.append(pool.submit(self.read, public_path))
                    if len(waiting) >= LOOK_AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def read(self, public_path: str) -> ReadFile | FailedFile:
        """Reads one file; never raises for what is wrong with the file.

        Raises:
            DecoderUnavailable: No file can be decoded now.
        """
        try:
            return self._read(public_path)
        except (ImageRejected, LibraryError) as error:
            return FailedFile(public_path, str(error), reason=kind_of(error))
        except FileNotFoundError:
            return FailedFile(public_path, "The file was removed before it could be read.", reason="removed-file")
        except DecoderKilled as error:
            return FailedFile(public_path, str(error), is_lasting=False, reason=kind_of(error))
        except OSError as error:
            return FailedFile(public_path, f"The file cannot be read: {error.strerror or error}", is_lasting=False)
        except MemoryError:
            message = "The picture needs more memory than this worker has."
            return FailedFile(public_path, message, is_lasting=False, reason="out-of-memory")

    def _read(self, public_path: str) -> ReadFile:
        path = self._library.resolve(Location.parse(public_path))
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size > self._decoder.max_bytes:
                raise ImageTooLarge("bytes", status.st_size, self._decoder.max_bytes, "MAX_FILE_BYTES")
            with self._gate.hold(status.st_size):
                return self._decoded(public_path, status, file)

    def _decoded(self, public_path: str, status: os.stat_result, file: BinaryIO) -> ReadFile:
        began = time.perf_counter()
        data = file.read(status.st_size + 1)
        if len(data) != status.st_size:
            raise UnreadableFile("The file changed while it was read.")
        content_hash = hashlib.sha256(data).digest()
        was_read = time.perf_counter()
        image = None if self._is_stored(content_hash) else self._decoder.decode(data)
        took = was_read - began, time.perf_counter() - was_read
        return ReadFile(public_path, status.st_size, status.st_mtime_ns, content_hash, image, *took)
