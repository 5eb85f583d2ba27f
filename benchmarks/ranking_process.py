"""The product's ranker in a process of its own, as a worker opens it: how soon it is ready, and what memory it takes.

A peer process: see `benchmarks.peer_process`. Settings come from the environment.

    python -m benchmarks.ranking_process QUERIES.npy THREADS [build]

With `build` it first makes what a start is usually from: it trains the basis, and encodes everything.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import field_mb, percentile
from benchmarks.peer_process import PeerProcess, answers_only, serve
from benchmarks.system import environment, wait_until
from common.ranking.bases import BasisFolder, train_if_outgrown
from common.ranking.opening import open_ranker
from common.ranking.two_stage import TwoStageRanker
from common.settings import Settings
from common.store import open_store

_LOOK_SECONDS = 0.02
_BUILD_SECONDS = 3600.0


def is_indexed(ranker: TwoStageRanker) -> bool:
    """Whether candidates of all images are in use; none are of a small collection."""
    if not BasisFolder(ranker.store.path).ids():
        return True
    # Nobody but a measurement wants to know.
    index = ranker._index
    names = {row.name for row in ranker.store.catalog.segments() if row.count}
    return index is not None and names <= index.names


def opened_and_indexed(settings: Settings, threads: int) -> TwoStageRanker:
    """The ranker that the product would use, when its background work is done."""
    ranker = open_ranker(settings, open_store(settings), threads)
    wait_until(lambda: is_indexed(ranker), "everything is encoded", _BUILD_SECONDS, every=0.01)
    return ranker


def start_ranking(settings: Settings, queries: Path, threads: int, *more: str) -> tuple[PeerProcess, float]:
    """Starts the process. Gives it, and the seconds from its start to the first answered query."""
    began = time.perf_counter()
    process = PeerProcess("benchmarks.ranking_process", str(queries), str(threads), *more, env=environment(settings))
    return process, time.perf_counter() - began


def anonymous_mb() -> float:
    """The resident memory of this process without pages of mapped files, in MB: those the system can take back."""
    return round(field_mb(Path("/proc/self/status").read_text(), "RssAnon"), 1)


class _Peak(threading.Thread):
    """Looks at the anonymous memory again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.anonymous_mb = 0.0

    def run(self) -> None:
        while True:
            self.anonymous_mb = max(self.anonymous_mb, anonymous_mb())
            time.sleep(_LOOK_SECONDS)


def _build(settings: Settings, threads: int) -> dict[str, float]:
    store = open_store(settings)
    began = time.perf_counter()
    train_if_outgrown(store)
    trained = time.perf_counter()
    opened_and_indexed(settings, threads)
    return {
        "train_seconds": round(trained - began, 2),
        "encode_seconds": round(time.perf_counter() - trained, 2),
    }


def main() -> None:
    """Answers one query, then as many as it is asked to."""
    channel = answers_only()
    peak = _Peak()
    peak.start()
    path, threads, *more = sys.argv[1:]
    queries, settings = np.load(path), Settings.load()
    built = _build(settings, int(threads)) if more == ["build"] else {}
    began = time.perf_counter()
    ranker = open_ranker(settings, open_store(settings), int(threads))
    opened = time.perf_counter()
    ranker.search(queries[0], 10)
    answered = time.perf_counter()

    def memory() -> dict[str, float]:
        return {"anonymous_mb": anonymous_mb(), "anonymous_peak_mb": max(peak.anonymous_mb, anonymous_mb())}

    def answer(k: int) -> dict[str, Any]:
        laps = []
        for query in queries:
            lap = time.perf_counter()
            ranker.search(query, k)
            laps.append(time.perf_counter() - lap)
        return {"p50_ms": round(1000 * percentile(laps, 50), 3), **memory()}

    greeting = {
        **built,
        "open_seconds": round(opened - began, 3),
        "first_query_seconds": round(answered - opened, 3),
        "indexed": is_indexed(ranker),
        **memory(),
    }
    serve(channel, greeting, answer)


if __name__ == "__main__":
    main()
