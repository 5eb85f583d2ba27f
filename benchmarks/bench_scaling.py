"""How much faster eight bulk workers are than one, with a model that sleeps instead of computing.

What is left is the product's own work: handing out batches, reading, decoding, writing segments, counting. The
workers' start is not measured.

    python -m benchmarks.bench_scaling
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.injection import injected
from benchmarks.system import System, WorkerProcess, running_redis
from common.settings import LibraryRoot, Settings
from tests.pictures import photo

TARGET = 7.5
# With 20 files a second, batches of 20 files: eighty for the default library, so that the last ones do not decide.
BATCH_SECONDS = 1.0


def make_library(folder: Path, files: int) -> None:
    """Small pictures, each with another content."""
    folder.mkdir(parents=True)
    for number in range(files):
        photo(number, (96, 72)).save(folder / f"{number:05}.jpg", quality=85)


def seconds_with(workers: int, library: Path, folder: Path, sleep: float) -> float:
    """Indexes the library with so many workers on an empty store. Returns the job's own seconds."""
    with running_redis() as url:
        settings = Settings(
            redis_url=url,
            data_dir=folder / "data",
            library_roots=(LibraryRoot(name="photos", path=library),),
            model="vgg16",
            weights="untrained",
            precision="float32",
            batch_seconds=BATCH_SECONDS,
        )
        folder.mkdir()
        system = System(settings, folder)
        try:
            with injected(stub=sleep):
                started: list[WorkerProcess] = [system.start_worker("bulk", ready=False) for _ in range(workers)]
            for worker in started:
                worker.wait_ready()
            time.sleep(3)  # until no process is busy with its start
            job = system.index("photos", 1800)
        finally:
            system.stop()
    if job.state != "done" or job.failed or job.finished_at is None:
        raise RuntimeError(f"the job ended as {job}")
    return (job.finished_at - job.started_at).total_seconds()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1600)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--sleep", type=float, default=0.05, help="seconds for each picture")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagesearch-scaling-") as scratch:
        library = Path(scratch) / "photos"
        make_library(library, options.files)
        many = seconds_with(options.workers, library, Path(scratch) / "many", options.sleep)
        one = seconds_with(1, library, Path(scratch) / "one", options.sleep)
    result = {
        "ratio": round(one / many, 2),
        "target": TARGET if options.workers == 8 else None,
        "reached": one / many >= TARGET if options.workers == 8 else None,
        "workers": options.workers,
        "files": options.files,
        "seconds_with_one": round(one, 2),
        "seconds_with_many": round(many, 2),
        "seconds_of_sleep": round(options.files * options.sleep, 2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
