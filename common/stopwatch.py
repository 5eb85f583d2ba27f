"""Where the time of a search goes, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

STAGES: Mapping[str, str] = {
    "upload": "the web tier receives, checks and stores the picture",
    "queue": "until a query worker has taken the search and read it",
    "decode": "from bytes to pixels",
    "embed": "waiting for the network, and its pass",
    "candidates": "the candidate index, where one is used",
    "rank": "exact comparison with stored features",
    "response": "the worker makes the answer",
    "poll": "until the web tier hands the finished answer out for the first time",
}
"""The stages in their order, and what each one is."""


class StopWatch:
    """Measures the stages of one search in the process that answers it.

    Args:
        before: What was measured elsewhere before, in milliseconds by stage.
    """

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._stages = dict(before or {})
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Ends a stage: it gets the time since the last one ended."""
        now = time.perf_counter()
        self._stages[stage] = self._stages.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    def took_ms(self) -> dict[str, float]:
        """What was measured, and the total."""
        return with_total(self._stages)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Makes `lap` mean this watch while the block runs, in this thread."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[StopWatch | None] = ContextVar("stopwatch", default=None)


def lap(stage: str) -> None:
    """Ends a stage of the search that this thread answers; does nothing where none is measured.

    So a ranker can tell its stages apart without carrying a watch through its signatures.
    """
    watch = _current.get()
    if watch is not None:
        watch.lap(stage)


def with_total(stages: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds by stage, rounded, in front of them `total`: their sum."""
    rounded = {stage: round(value, 2) for stage, value in stages.items() if stage != "total"}
    return {"total": round(sum(rounded.values()), 2), **rounded}


def milliseconds_since(moment: float) -> float:
    """Since a moment on the clock of some host; never negative, because that clock may be ahead of ours."""
    return max(0.0, time.time() - moment) * 1000
