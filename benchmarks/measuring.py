"""What every measurement needs: percentiles, a verdict, the memory of processes, and which machine it was.

Only the standard library is imported at the top: other interpreters use this module, too.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

# What speeds up reduced precision on x86.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8")
_PACKAGES = (
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "faiss-cpu",
    "numpy",
    "pillow",
    "h5py",
    "celery",
    "redis",
    "flask",
    "gunicorn",
)


# --- numbers -------------------------------------------------------------------------------------------------


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile, interpolated linearly between the two nearest values.

    Args:
        values: At least one.
        percent: 0 to 100.
    """
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def spread(values: Sequence[float]) -> float:
    """How far repeated measurements lie apart: the largest minus the smallest, as a part of the median."""
    return (max(values) - min(values)) / statistics.median(values)


def repeated(values: Sequence[float], digits: int = 2) -> dict[str, Any]:
    """The median of repeated measurements, their spread, and each of them."""
    return {
        "median": round(statistics.median(values), digits),
        "spread": round(spread(values), 3),
        "each": [round(value, digits) for value in values],
    }


def at_least(value: float, target: float | None) -> dict[str, Any]:
    """A figure that should be high, beside its target."""
    return {"value": round(value, 3), "target": target, "reached": None if target is None else value >= target}


def at_most(value: float, target: float | None) -> dict[str, Any]:
    """A figure that should be low, beside its target."""
    return {"value": round(value, 3), "target": target, "reached": None if target is None else value <= target}


def timed(call: Callable[[], object], seconds: float, least: int = 3) -> list[float]:
    """Repeats a call for some seconds, and at least so many times. Returns the seconds of each."""
    laps: list[float] = []
    deadline = perf_counter() + seconds
    while len(laps) < least or perf_counter() < deadline:
        began = perf_counter()
        call()
        laps.append(perf_counter() - began)
    return laps


# --- memory --------------------------------------------------------------------------------------------------


def field_mb(text: str, name: str) -> float:
    """A field of `/proc/PID/status` or `smaps_rollup`, such as `VmHWM:  1024 kB`, in MB (a million bytes).

    Raises:
        ValueError: There is no such field.
    """
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"no field {name}")


def peak_rss_mb(pid: int | str = "self") -> float:
    """The largest resident memory that a process has had so far."""
    return round(field_mb(Path(f"/proc/{pid}/status").read_text(), "VmHWM"), 1)


def pss_mb(pid: int | str = "self") -> float:
    """The memory of a process now; pages that several processes share count in parts, so it may be summed."""
    return round(field_mb(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Pss"), 1)


def process_tree(pid: int) -> list[int]:
    """A process and all below it."""
    import psutil

    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def tree_memory(pid: int) -> dict[str, Any]:
    """The memory of a process and all below it: the sum of PSS, and the peak of each and of the largest."""
    pids = process_tree(pid)
    peaks = [peak_rss_mb(one) for one in pids]
    return {
        "pss_mb": round(sum(pss_mb(one) for one in pids), 1),
        "peak_rss_mb": max(peaks),
        "peak_rss_mb_of_each": peaks,
    }


# --- the machine ---------------------------------------------------------------------------------------------


def machine(more_packages: Iterable[str] = ()) -> dict[str, Any]:
    """The processor, the memory, and the versions of what was measured."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    facts = dict(line.split(":", 1) for line in cpu.split("\n\n")[0].splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = facts.get("flags", "").split()
    return {
        "cpu": facts.get("model name", platform.processor()),
        "cpu_flags": [flag for flag in _CPU_FLAGS if flag in flags],
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {"imagesearch": _own_version()} | versions((*_PACKAGES, *more_packages)),
    }


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that this interpreter has."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _own_version() -> str:
    from common import __version__

    return __version__


class Noise:
    """What else used the processors during a measurement, as far as it shows from here."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._ticks = _ticks()

    def report(self) -> dict[str, float]:
        """The load before the measurement, and the share of time that the hypervisor gave to others since."""
        ticks = [after - before for before, after in zip(self._ticks, _ticks(), strict=True)]
        return {
            "load_before": round(self._load, 2),
            "stolen_percent": round(100 * ticks[7] / max(1, sum(ticks)), 2),
        }


def _ticks() -> list[int]:
    # user, nice, system, idle, iowait, irq, softirq, steal; the guest's ticks after them are part of user and nice.
    return [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
