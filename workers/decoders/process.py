"""A decoder process, as the worker that started it sees it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass, field

import numpy as np

from common.errors import (
    DamagedImage,
    DecoderCrashed,
    DecoderFault,
    DecoderKilled,
    DecoderUnavailable,
    DecodingTooSlow,
    EmptyImage,
    ImageRejected,
    ImageSearchError,
    ImageTooLarge,
    TooMuchMemoryNeeded,
    UnsupportedImage,
)
from common.images import LARGE_PIXELS, DecodedImage
from workers.decoders.limits import DecodingLimits
from workers.decoders.protocol import GO, MAX_BLOCK_BYTES, PIPE_BYTES, REPLY, Answer, Request, Wanted

START_SECONDS = 60.0
# A process that was killed, or whose input has ended, is gone in a moment.
_END_SECONDS = 10.0
_SECRETS = "IMAGESEARCH_"
_REJECTIONS: dict[str, type[ImageRejected]] = {
    kind.__name__: kind for kind in (DamagedImage, EmptyImage, ImageTooLarge, UnsupportedImage)
}

Hold = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class DecoderOptions:
    """What a decoder process is started with.

    Attributes:
        input_size: Height and width that the model wants.
        max_pixels: Largest picture, in pixels.
        threads: Threads for one picture, in formats that can use several.
        limits: What a picture may take.
    """

    input_size: tuple[int, int]
    max_pixels: int
    threads: int = 1
    limits: DecodingLimits = field(default_factory=DecodingLimits)

    def command(self) -> list[str]:
        """The command that starts a process."""
        options = json.dumps({**asdict(self), "light_pixels": LARGE_PIXELS})
        return [sys.executable, "-m", "workers.decoders.child", options]


class DecoderLost(Exception):
    """The process is gone: it died, hung, or answered nonsense.

    Attributes:
        error: What to say if that was the picture's doing.
        is_worth_a_retry: Whether it might go well in another process.
    """

    def __init__(self, error: ImageSearchError, *, is_worth_a_retry: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_worth_a_retry = is_worth_a_retry


class DecoderProcess:
    """One process. It serves one thread at a time.

    Args:
        options: What it is started with.

    Attributes:
        pictures: How many it has decoded.
    """

    def __init__(self, options: DecoderOptions) -> None:
        self._options = options
        self.pictures = 0
        try:
            self._process = subprocess.Popen(
                options.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=_environment()
            )
        except OSError as error:
            raise DecoderUnavailable(error.strerror or error) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        for pipe in (self._requests, self._answers):
            os.set_blocking(pipe, False)
            _enlarge(pipe)
        self._poll_out, self._poll_in = select.poll(), select.poll()
        self._poll_out.register(self._requests, select.POLLOUT)
        self._poll_in.register(self._answers, select.POLLIN)
        self._await_start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def decode(self, request: Request, hold: Hold) -> DecodedImage:
        """Has one picture decoded. Of a preview, only the thumbnail of the result is filled.

        Args:
            request: The picture.
            hold: Gives the block in which so many pixels may be decoded.

        Raises:
            ImageRejected: The picture is at fault; the process goes on.
            DecoderLost: The process is gone.
        """
        limits = self._options.limits
        allowed = limits.seconds(0)
        try:
            self._send([request.head(), request.data], self._deadline(allowed))
            kind, pixels, height, blocks = self._answer(self._deadline(allowed))
            with ExitStack() as held:
                if kind is Answer.OPENED:
                    held.enter_context(hold(pixels))
                    allowed = limits.seconds(min(pixels, self._options.max_pixels))
                    deadline = self._deadline(allowed)
                    if pixels > LARGE_PIXELS:
                        self._send([GO], deadline)
                    kind, pixels, height, blocks = self._answer(deadline)
            self.pictures += 1
            return self._result(request, kind, (pixels, height), blocks)
        except (_Gone, _Nonsense) as trouble:
            raise self._lost(trouble, allowed) from trouble

    def close(self) -> None:
        """Ends it; for one that is idle."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> int:
        """Ends it, whatever it does; gives its exit status, as `subprocess` has it."""
        self._process.kill()
        self.close()
        return self._process.returncode

    def _await_start(self) -> None:
        try:
            kind, *_ = self._answer(time.monotonic() + START_SECONDS)
        except (_Gone, _Nonsense) as trouble:
            status = self._end(trouble)
            raise DecoderUnavailable(_how(status) or "it takes too long to start") from trouble
        if kind is not Answer.READY:
            self.kill()
            raise DecoderUnavailable("it does not start as it should")

    def _deadline(self, allowed: float) -> float:
        return time.monotonic() + allowed * self._options.limits.patience

    def _result(
        self, request: Request, kind: Answer, size: tuple[int, int], blocks: tuple[bytearray, bytearray]
    ) -> DecodedImage:
        first, second = blocks
        if kind is Answer.REJECTED:
            raise _rejection(first)
        if kind is Answer.NO_MEMORY:
            raise TooMuchMemoryNeeded
        if kind is Answer.FAULT:
            raise DecoderFault(first.decode(errors="replace")) from RuntimeError(second.decode(errors="replace"))
        if kind is not Answer.DECODED:
            raise _Nonsense
        if request.wanted is Wanted.PREVIEW:
            return DecodedImage(np.empty((0, 0, 3), np.uint8), *size, bytes(first))
        shape = (*self._options.input_size, 3)
        if len(first) != shape[0] * shape[1] * shape[2]:
            raise _Nonsense
        return DecodedImage(np.frombuffer(first, np.uint8).reshape(shape), *size, bytes(second))

    def _lost(self, trouble: Exception, allowed: float) -> DecoderLost:
        """Sees to it that the process is gone, and says why."""
        status = self._end(trouble)
        if isinstance(trouble, _Overdue):
            return DecoderLost(DecodingTooSlow(allowed * self._options.limits.patience), is_worth_a_retry=False)
        if isinstance(trouble, _Nonsense):
            return DecoderLost(DecoderCrashed("it gave no sensible answer"), is_worth_a_retry=True)
        if status == -signal.SIGPROF:
            return DecoderLost(DecodingTooSlow(allowed), is_worth_a_retry=False)
        if status == -signal.SIGKILL:
            return DecoderLost(DecoderKilled(_how(status)), is_worth_a_retry=True)
        return DecoderLost(DecoderCrashed(_how(status)), is_worth_a_retry=True)

    def _end(self, trouble: Exception) -> int:
        """The exit status: its own, if it has died by itself."""
        if isinstance(trouble, _Gone) and not isinstance(trouble, _Overdue):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        return self.kill()

    # --- the pipes ---------------------------------------------------------------------------------------------

    def _answer(self, deadline: float) -> tuple[Answer, int, int, tuple[bytearray, bytearray]]:
        kind, width, height, first, second = REPLY.unpack(self._receive(REPLY.size, deadline))
        if max(first, second) > MAX_BLOCK_BYTES:
            raise _Nonsense
        try:
            answer = Answer(kind)
        except ValueError:
            raise _Nonsense from None
        return answer, width, height, (self._receive(first, deadline), self._receive(second, deadline))

    def _send(self, parts: Sequence[bytes], deadline: float) -> None:
        left = [memoryview(part) for part in parts if part]
        while left:
            try:
                sent = os.writev(self._requests, left)
            except BlockingIOError:
                _wait(self._poll_out, deadline)
                continue
            except OSError as error:
                raise _Gone from error
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if left:
                left[0] = left[0][sent:]

    def _receive(self, size: int, deadline: float) -> bytearray:
        block = bytearray(size)
        view, received = memoryview(block), 0
        while received < size:
            try:
                count = os.readv(self._answers, [view[received:]])
            except BlockingIOError:
                _wait(self._poll_in, deadline)
                continue
            except OSError as error:
                raise _Gone from error
            if not count:
                raise _Gone
            received += count
        return block


class _Gone(Exception):
    """The process has closed its pipes."""


class _Overdue(_Gone):
    """The process does not answer in time."""


class _Nonsense(Exception):
    """The process answers what it never should."""


def _wait(poll: select.poll, deadline: float) -> None:
    seconds = deadline - time.monotonic()
    if seconds <= 0 or not poll.poll(seconds * 1000):
        raise _Overdue


def _enlarge(pipe: int) -> None:
    """Lets a typical picture fit into a pipe, so that neither side waits for the other in between."""
    try:
        from fcntl import F_SETPIPE_SZ, fcntl
    except ImportError:  # not Linux
        return
    with suppress(OSError):  # this user has many pipes
        fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES)


def _environment() -> dict[str, str]:
    """That of this process, without the settings: a decoder needs none, and secrets are among them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
    # Its arithmetic is small, and each thread or arena of memory counts against what a picture may take.
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


def _rejection(described: bytearray) -> ImageRejected:
    try:
        known = json.loads(described)
        kind, message, facts = _REJECTIONS[known["type"]], str(known["message"]), dict(known["facts"])
    except (ValueError, KeyError, TypeError):
        raise _Nonsense from None
    error = kind.__new__(kind)
    ImageSearchError.__init__(error, message)
    vars(error).update(facts)
    return error


def _how(status: int) -> str:
    """How a process ended."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {-status}, {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
