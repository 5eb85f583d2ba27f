"""Recall as it is: some live queries are also ranked exactly, in the background, and the answers compared."""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from common.ranking.exact import ExactRanker
from common.ranking.protocol import Match, Query
from common.recall import DEPTH, RecallBoard
from common.store import FeatureStore

logger = logging.getLogger(__name__)

_ONE_IN = 50
_LEAST_PAUSE_SECONDS = 10.0
# The exact ranking of a million images reads 8 GB: all samples together may take 2 % of the time.
_PAUSE_FACTOR = 50
# The same feature has the same score in both rankings, up to the order of its sums.
_ROUNDING = 1e-9
_LOWEST_PRIORITY = 19


def hits_among(found: Sequence[Match], truth: Sequence[Match]) -> int:
    """How many of the first ten are as good as the exact ranking's: by score, so that equally good ones count."""
    best = truth[:DEPTH]
    if not best:
        return 0
    return min(len(best), sum(match.score >= best[-1].score - _ROUNDING for match in found[:DEPTH]))


@dataclass(frozen=True, slots=True)
class _Sample:
    query: Query
    k: int
    folder: str | None
    min_score: float | None
    matches: list[Match]
    generation: int


class RecallObserver:
    """Takes samples of queries and ranks them exactly in a thread of the lowest priority.

    Args:
        store: What is searched.
        board: Where the outcome is counted.
        one_in: Of so many queries one is looked at, if there was time enough since the last one.
        pause_seconds: How long at least.
    """

    def __init__(
        self,
        store: FeatureStore,
        board: RecallBoard,
        *,
        one_in: int = _ONE_IN,
        pause_seconds: float = _LEAST_PAUSE_SECONDS,
    ) -> None:
        self._store = store
        # Not the ranker of the searches, whose threads have their priority.
        self._exact = ExactRanker(store)
        self._board = board
        self._one_in = one_in
        self._pause_seconds = pause_seconds
        self._seen = 0
        self._not_before = 0.0
        self._waiting: queue.Queue[_Sample | None] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._run, name="recall", daemon=True)
        self._starting = threading.Lock()

    def __call__(self, query: Query, k: int, folder: str | None, min_score: float | None, matches: list[Match]) -> None:
        """Looks at a query that was answered. Never waits."""
        self._seen += 1  # a lost count when two threads meet does not matter
        if self._seen % self._one_in or time.monotonic() < self._not_before:
            return
        generation = self._store.catalog.generation
        self._not_before = math.inf  # until this one has been looked at
        with suppress(queue.Full):
            self._waiting.put_nowait(_Sample(query, k, folder, min_score, matches, generation))
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the sample that it looks at."""
        if self._thread.ident is not None:
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        # Of a single thread on Linux; elsewhere it stays as it is.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while (sample := self._waiting.get()) is not None:
            started = time.monotonic()
            try:
                self._compare(sample)
            except Exception:
                logger.warning("a sample of the recall could not be taken", exc_info=True)
            took = time.monotonic() - started
            self._not_before = time.monotonic() + max(self._pause_seconds, _PAUSE_FACTOR * took)

    def _compare(self, sample: _Sample) -> None:
        count = min(sample.k, DEPTH)
        truth = self._exact.search(sample.query, count, folder=sample.folder, min_score=sample.min_score)
        if truth and self._store.catalog.generation == sample.generation:
            self._board.add(hits_among(sample.matches[:count], truth), len(truth))
