"""The wish to stop: Ctrl-C and the signals that ask a process to end."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """While it is entered, signals are counted instead of ending the process.

    A flag, not an exception: that could come between the start of a process and its recording.
    """

    def __init__(self) -> None:
        self._count = 0
        self._earlier: dict[signal.Signals, Any] = {}

    def requested(self) -> bool:
        """Whether to stop."""
        return self._count > 0

    def in_hurry(self) -> bool:
        """Whether to stop at once."""
        return self._count > 1

    def __enter__(self) -> StopSignals:
        self._earlier = {number: signal.signal(number, self._take) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
