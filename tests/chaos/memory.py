"""Watches the memory of processes, and says by how much it rises."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

SAMPLE_SECONDS = 5.0
# What a process takes in its first while is not a leak: buffers, heaps and threads are made when they are needed.
WARM_UP_SECONDS, WARM_UP_SHARE = 180.0, 0.25
# A slope over less time says more of single allocations than of leaks.
JUDGED_FROM_SECONDS, SHOWN_FROM_SHARE = 600.0, 0.4
# A rise over the measured time that is more than noise.
RISE_MB, RISE_SHARE = 16.0, 0.05


@dataclass(frozen=True)
class Trend:
    """The memory of one process over the measured time."""

    role: str
    pid: int
    seconds: float
    mean_mb: float
    slope_mb_per_hour: float
    """By least squares."""
    quarters_mb: tuple[float, ...] = ()
    """The mean of each quarter of the time: a rise that comes to an end shows."""

    @property
    def rise_mb(self) -> float:
        """What the slope makes of the measured time."""
        return self.slope_mb_per_hour * self.seconds / 3600

    @property
    def is_flat(self) -> bool | None:
        """None: it was not watched for long enough to tell."""
        if self.seconds < JUDGED_FROM_SECONDS:
            return None
        return self.rise_mb <= max(RISE_MB, RISE_SHARE * self.mean_mb)


class MemoryWatch:
    """Samples the memory of processes and their children in a thread.

    Args:
        roots: The names of what is watched, and the process ids of the first process of each; may change meanwhile.
    """

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = roots
        self._samples: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory")
        self._thread.start()

    def stop(self) -> list[Trend]:
        """Ends watching. Gives the trends of all processes that lived for long enough after their warm-up."""
        self._stop.set()
        self._thread.join()
        whole = time.monotonic() - self._began
        warm_up = min(WARM_UP_SECONDS, WARM_UP_SHARE * whole)
        trends = []
        for (role, pid), samples in sorted(self._samples.items()):
            warm = [sample for sample in samples if sample[0] >= samples[0][0] + warm_up]
            times, sizes = np.array(warm).reshape(-1, 2).T
            if len(times) > 2 and times[-1] - times[0] > min(JUDGED_FROM_SECONDS, SHOWN_FROM_SHARE * whole):
                slope = float(np.polyfit(times - times[0], sizes, 1)[0]) * 3600
                quarters = tuple(float(part.mean()) for part in np.array_split(sizes, 4) if len(part))
                trends.append(Trend(role, pid, float(times[-1] - times[0]), float(sizes.mean()), slope, quarters))
        return trends

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            for role, pid in list(self._roots.items()):
                try:
                    root = psutil.Process(pid)
                    processes = [(role, root), *((f"{role} child", child) for child in root.children(recursive=True))]
                except psutil.NoSuchProcess:
                    continue
                for name, process in processes:
                    size = _size_mb(process)
                    if size is not None:
                        self._samples[name, process.pid].append((time.monotonic(), size))


def _size_mb(process: psutil.Process) -> float | None:
    """What is resident and no file: of mapped files the system decides how much, and leaks are not among them."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Anonymous:"))
    except (OSError, StopIteration):
        pass
    try:
        return float(process.memory_info().rss) / 2**20
    except psutil.NoSuchProcess:
        return None
