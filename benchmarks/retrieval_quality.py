"""How good are the results? Leave-one-out over a labelled collection, on the features that the product stored.

    python -m benchmarks.retrieval_quality IMAGES [--model FILE.keras]

IMAGES is a folder of `N.jpg` files whose class is `N // 100`, such as Corel-1k. The script starts a Redis and a
worker of its own, indexes the folder through the queue, exports the store, and ranks every image against all
others by cosine. It prints the share of nearest neighbours in the same class, the precision of the first 10, and
the mean average precision.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from benchmarks.system import temporary_system
from common.settings import Settings
from common.store import export, open_store


def quality(features: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> dict[str, float]:
    """Leave-one-out retrieval quality.

    Args:
        features: (n, d), L2-normalised.
        classes: (n) class numbers.

    Returns:
        `nearest_in_class`, `precision_at_10` and `mean_average_precision`, each 0 to 1.
    """
    similarity = features @ features.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1)[:, :-1]
    relevant = classes[order] == classes[:, None]
    hits = np.cumsum(relevant, axis=1)
    precision = hits / np.arange(1, relevant.shape[1] + 1)
    average = (precision * relevant).sum(axis=1) / relevant.sum(axis=1)
    return {
        "nearest_in_class": float(relevant[:, 0].mean()),
        "precision_at_10": float(relevant[:, :10].mean()),
        "mean_average_precision": float(average.mean()),
    }


def stored_quality(settings: Settings, folder: Path) -> dict[str, float]:
    """The quality of what the store of these settings holds; `folder` is for the export."""
    target = folder / "features.h5"
    export(open_store(settings), target)
    with h5py.File(target) as file:
        features = file["features"][:]
        classes = np.array([int(Path(path.decode()).stem) // 100 for path in file["paths"][:]])
    return quality(features, classes)


def main() -> None:
    """Runs the measurement and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--weights", default="auto")
    arguments = parser.parse_args()
    with temporary_system(arguments.images, arguments.model, arguments.weights) as system:
        system.start_worker("bulk")
        job = system.index("images", seconds=3600)
        figures = stored_quality(system.settings, system.settings.data_dir)
    print(json.dumps({"model": arguments.model, "images": job.done, **figures}, indent=1))


if __name__ == "__main__":
    main()
