"""Troubles that last, in the log: a line when one begins, and a line when it is over, however often it is met."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass


@dataclass
class _Episode:
    kind: str
    since: float
    well_since: float | None = None


class Episodes:
    """Writes down when a trouble begins, when it becomes another one, and when it is over. Safe for threads.

    Args:
        logger: Gets the lines.
        calm_seconds: A trouble is over when nothing was wrong for so long: what comes and goes is one trouble.
    """

    def __init__(self, logger: logging.Logger, *, calm_seconds: float = 0.0) -> None:
        self._logger = logger
        self._calm_seconds = calm_seconds
        self._lock = threading.Lock()
        self._running: dict[str, _Episode] = {}

    def note(
        self,
        name: str,
        problem: str | None,
        *,
        kind: str | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Says how something is, as often as one likes.

        Args:
            name: What it is about, as the lines begin: `Redis`, `the store`.
            problem: What is wrong with it, in plain words; None if nothing is.
            kind: A problem of the same kind is the same one, whatever its text says; by default, the text counts.
            error: Its traceback is logged, too. For what nobody expects.
        """
        with self._lock:
            if problem is None:
                self._end(name)
            else:
                self._begin(name, problem, kind or problem, error)

    def _begin(self, name: str, problem: str, kind: str, error: BaseException | None) -> None:
        running = self._running.setdefault(name, _Episode("", time.monotonic()))
        running.well_since = None
        if running.kind != kind:
            running.kind = kind
            self._logger.warning("%s: %s", name, problem, exc_info=error)

    def _end(self, name: str) -> None:
        running = self._running.get(name)
        if running is None:
            return
        now = time.monotonic()
        if running.well_since is None:
            running.well_since = now
        if now - running.well_since >= self._calm_seconds:
            del self._running[name]
            self._logger.info("%s: well again, after %.0f s", name, running.well_since - running.since)
