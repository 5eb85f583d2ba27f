"""Gives memory that is not used any more back to the system.

The C library keeps what is freed, apart from what lies at the end of a heap: it takes it for what comes next. But each
thread may have a heap of its own, and what lives for long ends up between what doesn't, so that over hours of searches
the heaps get larger although no more is used. glibc's `malloc_trim` gives back the whole pages that are free in all of
them, wherever they lie.
"""

from __future__ import annotations

import ctypes
import time

SECONDS_BETWEEN = 60.0


class Heap:
    """The memory of this process that the C library hands out.

    Args:
        seconds: How long `tidy` leaves it alone after each time.
    """

    def __init__(self, seconds: float = SECONDS_BETWEEN) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds
        # Only glibc has it.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def tidy(self) -> None:
        """Gives back what is free, now and then. Takes some milliseconds; other threads go on meanwhile."""
        now = time.monotonic()
        if self._trim is not None and now >= self._next:
            self._next = now + self._seconds
            self._trim(0)
