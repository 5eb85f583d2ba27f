"""The old algorithm over a list of files: one picture at a time, one `.npy` file for each.

A peer process: see `benchmarks.peer_process`.

    python -m benchmarks.old_loop [WEIGHTS.h5]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.old_algorithm import OldAlgorithm
from benchmarks.peer_process import answers_only, serve


def main() -> None:
    """Loads the model and answers requests."""
    channel = answers_only()
    old = OldAlgorithm(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    old.extract(Image.new("RGB", (8, 8)))  # the first call compiles

    def run(files: list[str], folder: str) -> dict[str, Any]:
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        for name in files:
            path = Path(name)
            with Image.open(path) as image:
                np.save(target / f"{path.stem}.npy", old.extract(image))
        return {"files": len(files), "images_per_second": round(len(files) / (time.perf_counter() - began), 3)}

    serve(channel, {}, run)


if __name__ == "__main__":
    main()
