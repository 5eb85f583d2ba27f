"""What runs in this process, so that work that can wait does not get in its way."""

from __future__ import annotations

import threading
import time


class Activity:
    """Counts the tasks that run, and waits until none does. May be used from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._since = self._moved = time.monotonic()

    @property
    def stalled_seconds(self) -> float:
        """For how long nothing has got on, although something runs."""
        return time.monotonic() - self._moved if self._running else 0.0

    def beat(self) -> None:
        """Says that something that runs has got on."""
        self._moved = time.monotonic()

    @property
    def running(self) -> int:
        """How many tasks run."""
        return self._running

    def change(self, by: int) -> None:
        """Counts a task that begins (1) or ends (-1)."""
        with self._changed:
            # One that begins beside others says nothing about them.
            if by < 0 or not self._running:
                self.beat()
            self._running += by
            self._since = time.monotonic()
            self._changed.notify_all()

    def await_quiet(self, seconds: float, patience: float) -> bool:
        """Waits until nothing has run for so long, but not longer than the patience lasts.

        Returns:
            Whether it is quiet.
        """
        deadline = time.monotonic() + patience
        with self._changed:
            while True:
                now = time.monotonic()
                quiet_at = deadline if self._running else self._since + seconds
                if not self._running and now >= quiet_at:
                    return True
                if now >= deadline:
                    return False
                self._changed.wait(min(quiet_at, deadline) - now)
