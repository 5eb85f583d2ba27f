"""What all runtimes have in common: the same pictures, the same passes, the same figures.

Needs only NumPy, because another interpreter may have no more.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measuring import peak_rss_mb, timed, versions

BATCHES = (1, 4, 16)
CALIBRATION = 16
"""So many of the pictures are for the calibration of int8; what is compared are the others."""
INPUTS, REFERENCE = "inputs.npy", "reference.npy"

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Run = Callable[[Matrix], Matrix]


def measure(folder: Path, load: Callable[[int], Run], seconds: float, package: str) -> None:
    """Measures a runtime and prints JSON.

    Args:
        folder: Holds the pictures and the reference features.
        load: Makes the function that runs passes of a batch size: (n, 224, 224, 3) in, (n, 4096) out. What it takes
            is counted; importing the runtime is not.
        seconds: For each batch size.
        package: What the runtime is called among Python packages.
    """
    pictures = np.load(folder / INPUTS, mmap_mode="r")[CALIBRATION:]
    reference = np.load(folder / REFERENCE)[CALIBRATION:]
    figures: dict[str, Any] = {"version": versions([package]).get(package)}
    for batch in BATCHES:
        began = perf_counter()
        run = load(batch)
        loaded = perf_counter() - began
        run = partial(run, np.ascontiguousarray(pictures[:batch]))
        first, laps = timed(run, 0, 1), timed(run, seconds)
        figures[f"batch_{batch}"] = {
            "ms": round(statistics.median(laps) * 1000, 2),
            "images_per_second": round(batch * len(laps) / sum(laps), 2),
            "load_seconds": round(loaded, 2),
            "first_ms": round(first[0] * 1000, 1),
        }
    figures["cosine_to_float32"] = _cosines(run(), reference[: BATCHES[-1]])
    figures["peak_rss_mb"] = peak_rss_mb()
    print(json.dumps(figures))


def _cosines(features: Matrix, reference: Matrix) -> dict[str, float]:
    exact, other = reference.astype(np.float64), np.asarray(features, np.float64)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (exact * other).sum(axis=1) / lengths
    return {"pictures": len(cosines), "mean": float(cosines.mean()), "lowest": float(cosines.min())}
