"""The model alone, as a worker of the same settings loads it: what no worker can be faster than.

A peer process: see `benchmarks.peer_process`. Settings come from the environment.

    python -m benchmarks.forward THREADS
"""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial
from typing import Any

import numpy as np

from benchmarks.measuring import cores, timed
from benchmarks.peer_process import PeerProcess, answers_only, serve
from benchmarks.system import System, environment
from common.settings import Settings
from common.weights import resolve_weights
from workers.extractor import load_extractor

BATCHES = (1, 4, 8, 16, 32)


def start_forward(system: System, queue: str) -> PeerProcess:
    """Starts the process, with as many threads as the system's running worker of this queue has."""
    threads = next(worker.threads for worker in system.client.workers() if queue in worker.queues)
    return PeerProcess("benchmarks.forward", str(threads or cores()), env=environment(system.settings))


def best_batch(peer: PeerProcess, seconds: float) -> tuple[int, dict[str, float]]:
    """The batch size with the most images a second, and the images a second of each."""
    rates = peer.ask(scan=list(BATCHES), seconds=seconds)["images_per_second"]
    return int(max(rates, key=lambda batch: rates[batch])), rates


class Forward:
    """Answers requests for passes over random pictures."""

    def __init__(self, threads: int) -> None:
        settings = Settings.load()
        began = time.perf_counter()
        self._extractor = load_extractor(settings, resolve_weights(settings), threads=lambda: threads)
        self._extractor.warm_up()
        self.greeting = {
            "precision": self._extractor.precision,
            "threads": threads,
            "load_seconds": round(time.perf_counter() - began, 2),
        }
        shape = (max(BATCHES), *self._extractor.spec.input_size, 3)
        self._pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def answer(self, seconds: float, batch: int = 1, scan: list[int] | None = None, least: int = 3) -> dict[str, Any]:
        """Runs passes of one batch size for some seconds, or of several sizes in turns.

        Args:
            seconds: How long; for each size.
            batch: Pictures in a pass.
            scan: Several sizes instead.
            least: At least so many passes.

        Returns:
            The median pass in milliseconds and the mean images a second; of a scan only these, by size.
        """
        if scan:
            return {"images_per_second": self._scan(scan, seconds * len(scan))}
        self._pass(batch)
        laps = timed(partial(self._pass, batch), seconds, least)
        return {
            "batch": batch,
            "passes": len(laps),
            "median_ms": round(statistics.median(laps) * 1000, 3),
            "images_per_second": round(batch * len(laps) / sum(laps), 3),
        }

    def _scan(self, sizes: list[int], seconds: float) -> dict[str, float]:
        """In turns, so that a slow moment of the machine meets every size."""
        for size in sizes:
            self._pass(size)
        laps: dict[int, list[float]] = {size: [] for size in sizes}
        deadline = time.perf_counter() + seconds
        while not laps[sizes[-1]] or time.perf_counter() < deadline:
            for size in sizes:
                # Small ones more often, so that every size gets about as much time.
                laps[size] += timed(partial(self._pass, size), 0, max(1, max(sizes) // size // 2))
        return {str(size): round(size / statistics.median(laps[size]), 3) for size in sizes}

    def _pass(self, batch: int) -> None:
        self._extractor.extract(self._pixels[:batch])


def main() -> None:
    """Loads the model and answers requests."""
    channel = answers_only()
    forward = Forward(int(sys.argv[1]))
    serve(channel, forward.greeting, forward.answer)


if __name__ == "__main__":
    main()
