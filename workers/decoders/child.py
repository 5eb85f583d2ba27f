"""A decoder process: `python -m workers.decoders.child OPTIONS`, with requests on standard input.

It decodes one picture at a time and ends when its input does: with the worker that started it, however that ends.
The kernel holds it to its limits: it has no memory and no processor time beyond them, and writes no file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from common.errors import ImageRejected
from common.images import ImageDecoder, limit_decoder_threads
from workers.decoders.limits import DecodingLimits
from workers.decoders.protocol import GO, REPLY, REQUEST, Answer, Wanted, parse_request

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

_STATM = Path("/proc/self/statm")
_OOM_SCORE = Path("/proc/self/oom_score_adj")


class Bounds:
    """Holds this process to the limits of the picture that it decodes; does what the system can.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: DecodingLimits) -> None:
        self._limits = limits
        self._file_size = 0
        self._before = 0
        if resource is not None:
            for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
                with suppress(ValueError, OSError):
                    resource.setrlimit(what, (0, 0))

    def begin(self, file_size: int) -> None:
        """A file comes, whose header is not known yet."""
        self._file_size, self._before = file_size, _address_space()
        self.set(0)

    def set(self, pixels: int) -> None:
        """So many pixels are to be decoded."""
        # At the end of that time the signal ends the process, whatever native code it is in.
        signal.setitimer(signal.ITIMER_PROF, self._limits.seconds(pixels))
        self._limit_memory(self._before + self._limits.memory(pixels, self._file_size))

    def end(self) -> None:
        """The picture is done with."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._limit_memory(None)

    def _limit_memory(self, wanted: int | None) -> None:
        if resource is None or not self._before:
            return
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        bounds = [bound for bound in (wanted, hard) if bound not in {None, resource.RLIM_INFINITY}]
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (min(bounds, default=resource.RLIM_INFINITY), hard))


class WorkersGate:
    """Tells the worker the size of a picture, and waits for its word where it is a large one.

    Args:
        bounds: Told the size, too.
        source: Where the worker's word comes from.
        target: Where the answers go.
        light: The most pixels of a picture that need not wait.
    """

    def __init__(self, bounds: Bounds, source: BinaryIO, target: BinaryIO, light: int) -> None:
        self._bounds = bounds
        self._source = source
        self._target = target
        self._light = light

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """The picture is decoded while the block runs."""
        answer(self._target, Answer.OPENED, (pixels, 0))
        if pixels > self._light and self._source.read(len(GO)) != GO:
            sys.exit(0)
        self._bounds.set(pixels)
        yield


def answer(target: BinaryIO, kind: Answer, size: tuple[int, int] = (0, 0), *blocks: bytes) -> None:
    """Sends an answer."""
    first, second = (*(len(block) for block in blocks), 0, 0)[:2]
    target.write(REPLY.pack(kind, *size, first, second))
    for block in blocks:
        target.write(block)
    target.flush()


def serve(decoder: ImageDecoder, bounds: Bounds, source: BinaryIO, target: BinaryIO) -> None:
    """Answers requests until there are no more."""
    answer(target, Answer.READY)
    while len(head := source.read(REQUEST.size)) == REQUEST.size:
        wanted, crop, length = parse_request(head)
        data = source.read(length)
        if len(data) != length:
            return
        bounds.begin(length)
        try:
            if wanted is Wanted.PREVIEW:
                preview = decoder.preview(data)
                bounds.end()
                answer(target, Answer.DECODED, (0, 0), preview)
            else:
                image = decoder.decode(data, crop, thumbnail=wanted is Wanted.PIXELS_AND_THUMBNAIL)
                bounds.end()
                answer(target, Answer.DECODED, (image.width, image.height), image.pixels.tobytes(), image.thumbnail)
        except ImageRejected as error:
            bounds.end()
            answer(target, Answer.REJECTED, (0, 0), _described(error))
        except MemoryError:
            bounds.end()
            answer(target, Answer.NO_MEMORY)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this picture's
            bounds.end()
            last = "".join(traceback.format_exception_only(error)).strip()
            answer(target, Answer.FAULT, (0, 0), last.encode(), traceback.format_exc().encode())


def _described(error: ImageRejected) -> bytes:
    facts = {name: value for name, value in vars(error).items() if isinstance(value, int)}
    return json.dumps({"type": type(error).__name__, "message": str(error), "facts": facts}).encode()


def _address_space() -> int:
    """Bytes of this process's address space; 0 where that cannot be known."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return 0


def main() -> None:
    """Serves with the options of the command line."""
    options = json.loads(sys.argv[1])
    # Should the system run out of memory, it must not choose the worker.
    with suppress(OSError):
        _OOM_SCORE.write_text("500", encoding="ascii")
    # Who stops a worker in a terminal, or a group of processes, lets the worker finish what it has: it needs us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    source = os.fdopen(os.dup(0), "rb")
    # Nothing that a library prints may get among the answers, or fill the log with what a stranger wrote.
    target = os.fdopen(os.dup(1), "wb")
    limit_decoder_threads(options["threads"])
    bounds = Bounds(DecodingLimits(**options["limits"]))
    decoder = ImageDecoder(
        tuple(options["input_size"]),
        max_bytes=sys.maxsize,  # the worker has looked
        max_pixels=options["max_pixels"],
        bytes_setting="",
        gate=WorkersGate(bounds, source, target, options["light_pixels"]),
    )
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    serve(decoder, bounds, source, target)


if __name__ == "__main__":
    main()
