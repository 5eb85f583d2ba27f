"""How fast files become published segments, beside the model alone and the old one-at-a-time loop.

Each precision gets a Redis and one bulk worker. A round is: the old loop over a sample, the model alone at its best
batch, the job over new files, the model alone once more; what is compared was measured within a minute. The copies
of the photos that a round indexes have contents of their own, so that every file is embedded. The features that were
stored are compared with those of the old loop.

    python -m benchmarks.bench_indexing --images FOLDER
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forward import best_batch, start_forward
from benchmarks.measuring import Noise, at_least, machine, repeated
from benchmarks.peer_process import PeerProcess
from benchmarks.photos import copy_photos, photos_in
from benchmarks.system import System, environment, temporary_system
from common.store import FeatureStore, open_store

CEILING_TARGET = 0.95
OLD_TARGETS = {"float32": 2.0, "bfloat16": 4.0, "int8": 7.0}
# The one that waits for the job must not take the processor from it.
LOOK_EVERY_SECONDS = 0.5
WAIT_SECONDS = 7200.0


class PrecisionBench:
    """The measurements of one precision.

    Args:
        system: A system without workers.
        old: The old loop's process.
        options: The command line.
        scratch: A folder for the old loop's files.
    """

    def __init__(self, system: System, old: PeerProcess, options: argparse.Namespace, scratch: Path) -> None:
        self._system = system
        self._old = old
        self._options = options
        self._old_features = scratch / "old"

    def run(self, rounds: list[list[Path]]) -> dict[str, Any]:
        """Measures one round for each list of files."""
        self._system.start_worker("bulk")
        with start_forward(self._system, "bulk") as forward:
            threads = forward.greeting["threads"]
            batch, by_batch = best_batch(forward, self._options.scan_seconds)
            measured = [self._round(forward, batch, files) for files in rounds]
        ceilings = [statistics.mean(item["ceilings"]) for item in measured]
        against_ceiling = [item["rate"] / ceiling for item, ceiling in zip(measured, ceilings, strict=True)]
        against_old = [item["rate"] / item["old"] for item in measured]
        precision = self._system.settings.precision
        return {
            "ratio_to_ceiling": at_least(statistics.median(against_ceiling), CEILING_TARGET),
            "ratio_to_old": at_least(statistics.median(against_old), OLD_TARGETS.get(precision)),
            "ratios_to_ceiling": [round(value, 3) for value in against_ceiling],
            "ratios_to_old": [round(value, 2) for value in against_old],
            "images_per_second": repeated([item["rate"] for item in measured]),
            "ceiling_images_per_second": repeated(ceilings),
            "ceilings_before_and_after": [item["ceilings"] for item in measured],
            "threads": threads,
            "ceiling_batch": batch,
            "ceiling_by_batch": by_batch,
            "old_images_per_second": repeated([item["old"] for item in measured]),
            "job_seconds": [round(item["seconds"], 2) for item in measured],
            "duplicates": sum(item["duplicates"] for item in measured),
            "cosine_to_old": self._cosines(rounds[0]),
        }

    def _round(self, forward: PeerProcess, batch: int, files: list[Path]) -> dict[str, Any]:
        old = self._old.ask(
            files=[str(path) for path in files[: self._options.old_files]],
            folder=str(self._old_features / files[0].parent.name),
        )
        before = forward.ask(batch=batch, seconds=self._options.ceiling_seconds)["images_per_second"]
        job = self._system.index(f"images/{files[0].parent.name}", WAIT_SECONDS, every=LOOK_EVERY_SECONDS)
        after = forward.ask(batch=batch, seconds=self._options.ceiling_seconds)["images_per_second"]
        if job.state != "done" or job.failed or job.done != len(files) or job.finished_at is None:
            raise RuntimeError(f"the job ended as {job}")
        seconds = (job.finished_at - job.started_at).total_seconds()
        return {
            "rate": len(files) / seconds,
            "seconds": seconds,
            "ceilings": [before, after],
            "old": old["images_per_second"],
            "duplicates": job.duplicates,
        }

    def _cosines(self, files: list[Path]) -> dict[str, Any]:
        """Of the stored features to those of the old loop, for its sample."""
        store = open_store(self._system.settings)
        store.refresh()
        cosines = []
        for path in files[: self._options.old_files]:
            old = np.load(self._old_features / path.parent.name / f"{path.stem}.npy")
            cosines.append(float(old @ _stored(store, path)))
        return {"pictures": len(cosines), "mean": statistics.mean(cosines), "lowest": min(cosines)}


def _stored(store: FeatureStore, path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    entry = store.catalog.by_path(f"images/{path.parent.name}/{path.name}")
    if entry is None:
        raise RuntimeError(f"{path.name} is not in the store")
    feature = store.feature(entry).astype(np.float32)
    return feature / np.linalg.norm(feature)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of real photos")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", default="float32,bfloat16,int8")
    parser.add_argument("--weights", default="untrained")
    parser.add_argument("--old-files", type=int, default=100, help="files of a round that the old loop gets, too")
    parser.add_argument("--ceiling-seconds", type=float, default=6.0, help="of the model alone, before and after a job")
    parser.add_argument("--scan-seconds", type=float, default=4.0, help="for each batch size, to find the best one")
    options = parser.parse_args()
    noise = Noise()
    figures = {}
    with tempfile.TemporaryDirectory(prefix="imagesearch-indexing-") as name:
        scratch = Path(name)
        photos = photos_in(options.images)
        rounds = [copy_photos(photos, scratch / "images" / f"{i}", options.files) for i in range(options.rounds)]
        for precision in options.precisions.split(","):
            with temporary_system(scratch / "images", "vgg16", options.weights, precision=precision) as system:
                weights = [] if options.weights == "untrained" else [options.weights]
                with PeerProcess("benchmarks.old_loop", *weights, env=environment(system.settings)) as old:
                    figures[precision] = PrecisionBench(system, old, options, scratch / precision).run(rounds)
    ratios = ("ratio_to_ceiling", "ratio_to_old")
    result = {
        "targets": {precision: {key: item[key] for key in ratios} for precision, item in figures.items()},
        "files": options.files,
        "rounds": options.rounds,
        "weights": options.weights,
        **{
            precision: {key: value for key, value in item.items() if key not in ratios}
            for precision, item in figures.items()
        },
        "noise": noise.report(),
        "machine": machine(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
