"""What a very large folder costs: the time to the first results, the scan, the memory of worker and Redis.

The files are copies of one tiny JPEG, each with other bytes after its end; the model computes nothing. First the
folder is new: the job is watched until its scan is complete. Then the catalog knows all of it already, and the
folder is indexed again.

    python -m benchmarks.bench_million --files 100000
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import redis
from PIL import Image

from benchmarks.injection import StubExtractor, injected
from benchmarks.system import System, running_redis, wait_until
from common.settings import LibraryRoot, Settings
from common.store import FeatureStore, ImageRecord

FOLDERS = 1000
SEGMENT_ROWS = 65_536
WAIT_SECONDS = 7200.0
TARGETS = {"redis_peak_mb": 300.0, "rescan_seconds": 60.0, "rescan_rss_mb": 500.0}


def make_files(library: Path, files: int) -> None:
    """Writes the pictures, evenly into a thousand folders."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), (200, 100, 50)).save(buffer, "JPEG")
    picture = buffer.getvalue()
    for number in range(FOLDERS):
        folder = library / f"{number:04}"
        folder.mkdir(parents=True)
        for index in range(number, files, FOLDERS):
            (folder / f"{index:07}.jpg").write_bytes(picture + index.to_bytes(4, "big"))


def system_on(url: str, library: Path, folder: Path) -> System:
    """A system without workers on an empty data folder."""
    folder.mkdir()
    roots = (LibraryRoot(name="photos", path=library),)
    return System(
        Settings(
            redis_url=url,
            data_dir=folder / "data",
            library_roots=roots,
            model="vgg16",
            weights="untrained",
            precision="float32",
        ),
        folder,
    )


def measure_new(library: Path, folder: Path) -> dict[str, float]:
    """Indexes a folder of which nothing is known, until its scan is complete."""
    with running_redis() as url:
        system = system_on(url, library, folder)
        try:
            with injected(stub=0.0):
                system.start_worker("bulk")
            idle = _peak_rss_mb(system)
            began = time.monotonic()
            job = system.client.submit_index_job("photos")
            wait_until(lambda: system.client.job(job.id).done > 0, "the first batch", WAIT_SECONDS)
            first = time.monotonic() - began
            wait_until(lambda: system.client.job(job.id).state != "scanning", "the scan is complete", WAIT_SECONDS)
            scan = time.monotonic() - began
            found = system.client.job(job.id)
            rss = _peak_rss_mb(system)
            system.client.cancel_job(job.id)
            with redis.Redis.from_url(url) as client:
                redis_peak = client.info("memory")["used_memory_peak"] / 1e6
        finally:
            system.stop()
    return {
        "first_batch_seconds": round(first, 2),
        "scan_seconds": round(scan, 2),
        "found": found.found,
        "embedded_meanwhile": found.done,
        "scan_rss_mb": round(rss, 1),
        "worker_idle_rss_mb": round(idle, 1),
        "redis_peak_mb": round(redis_peak, 1),
    }


def measure_known(library: Path, folder: Path) -> dict[str, float]:
    """Indexes a folder that is in the catalog as it is on disk."""
    with running_redis() as url:
        system = system_on(url, library, folder)
        store = _fill_store(library, system.settings)
        began = time.monotonic()
        store.refresh()
        catalog = time.monotonic() - began
        try:
            with injected(stub=0.0):
                system.start_worker("bulk")
            began = time.monotonic()
            job = system.index("photos", WAIT_SECONDS)
            seconds = time.monotonic() - began
            rss = _peak_rss_mb(system)
        finally:
            system.stop()
    if job.state != "done" or job.total:
        raise RuntimeError(f"the files are not taken for unchanged: {job}")
    return {
        "catalog_seconds": round(catalog, 2),
        "rescan_seconds": round(seconds, 2),
        "rescan_rss_mb": round(rss, 1),
        "rescan_found": job.found,
    }


def _fill_store(library: Path, settings: Settings) -> FeatureStore:
    spec = StubExtractor(0).spec
    store = FeatureStore(spec.store_path(settings.data_dir), spec, settings.local_cache_dir)
    rows: list[ImageRecord] = []
    for row in _records(library):
        rows.append(row)
        if len(rows) == SEGMENT_ROWS:
            _publish(store, rows)
            rows = []
    if rows:
        _publish(store, rows)
    return store


def _publish(store: FeatureStore, rows: list[ImageRecord]) -> None:
    name = rows[0].path.replace("/", "-")
    store.publish(
        name, precision="float32", records=rows, features=np.full((len(rows), 8), 8**-0.5), thumbnails=[b""] * len(rows)
    )


def _records(library: Path) -> Iterator[ImageRecord]:
    for folder in sorted(library.iterdir()):
        for entry in sorted(os.scandir(folder), key=lambda item: item.name):
            status = entry.stat()
            yield ImageRecord(
                root="photos",
                path=f"{folder.name}/{entry.name}",
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                content_hash=entry.name.encode().ljust(32, b"\0"),
                width=1,
                height=1,
                sequence=1,
            )


def _peak_rss_mb(system: System) -> float:
    """The largest resident memory that a worker process has had so far."""
    peaks = []
    for worker in system.client.workers():
        for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peaks.append(int(line.split()[1]) / 1000)
    return max(peaks)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagesearch-million-") as scratch:
        library = Path(scratch) / "photos"
        began = time.monotonic()
        make_files(library, options.files)
        made = time.monotonic() - began
        figures: dict[str, Any] = measure_known(library, Path(scratch) / "known")
        figures |= measure_new(library, Path(scratch) / "new")
    ratios = {
        name: {"value": figures[name], "target": target, "reached": figures[name] < target}
        for name, target in TARGETS.items()
    }
    print(
        json.dumps({"targets": ratios, "files": options.files, "making_seconds": round(made, 1), **figures}, indent=1)
    )


if __name__ == "__main__":
    main()
