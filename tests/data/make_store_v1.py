"""Made `stores/v1`, once, with software of format version 1: two batches of a job, and what a later one removed.

Never run it again: the folder stands for the stores that people have on their disks.

    python -m tests.data.make_store_v1
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from common.store import FeatureStore, ImageRecord, Tombstone
from common.store.segment import FORMAT_VERSION
from tests.data.make_segment_v1 import FOLDER, SPEC

STORE = FOLDER / "stores" / "v1"
PATHS = ("a.jpg", "b/c.jpg", "b/d.jpg", "e.jpg")


def record(number: int, sequence: int) -> ImageRecord:
    """Of one of the four pictures."""
    return ImageRecord("photos", PATHS[number], 1000 + number, 10**18 + number, bytes([number] * 32), 64, 48, sequence)


def feature(number: int) -> list[float]:
    """Of one of the four pictures: it has all weight in one value."""
    return [float(number == position) for position in range(SPEC.dimension)]


if __name__ == "__main__":
    assert FORMAT_VERSION == 1, "version 1 is written by the software that introduced it"
    assert not STORE.exists(), f"{STORE} is never made again"
    with tempfile.TemporaryDirectory() as cache:
        store = FeatureStore(STORE, SPEC, Path(cache))
        for batch, numbers in enumerate([(0, 1), (2, 3)], 1):
            store.publish(
                f"20260102-030405-0a0b0c-001-{batch:06}",
                precision="float32",
                records=[record(number, 1000) for number in numbers],
                features=np.array([feature(number) for number in numbers], np.float32),
                thumbnails=[f"thumbnail {number}".encode() for number in numbers],
            )
        store.publish(
            "20260202-030405-0d0e0f-001-000001",
            precision="float32",
            records=[record(0, 2000)],
            features=np.array([feature(0)], np.float32),
            thumbnails=[b"thumbnail 0 again"],
            tombstones=[Tombstone("photos/e.jpg", 2000)],
        )
