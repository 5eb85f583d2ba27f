"""Made `segment-v1.h5`, once, with the software that introduced format version 1.

Never run it again: the file stands for the segments that people have on their disks.

    python -m tests.data.make_segment_v1
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.models import ModelSpec
from common.store import ImageRecord, Tombstone
from common.store.segment import FORMAT_VERSION, SegmentContent, write_segment

FOLDER = Path(__file__).parent
SPEC = ModelSpec(
    architecture="fixture",
    layer="fc",
    weights_sha256="ab" * 32,
    preprocessing="bicubic-rgb/1",
    dimension=8,
    input_size=(224, 224),
    trained=True,
)


def content() -> SegmentContent:
    """Three rows of two roots, and a tombstone."""
    records = [
        ImageRecord("photos", "2019/a.jpg", 1234, 1_546_300_800_000_000_001, bytes(range(32)), 640, 480, 1000),
        ImageRecord("photos", "2019/übung 日本.png", 2**33, -1, bytes(range(32, 64)), 4000, 3000, 1001),
        ImageRecord("scans", "b.tif", 0, 0, b"\xff" * 32, 1, 1, 1_700_000_000_000_000_000),
    ]
    features = np.zeros((3, 8), np.float32)
    features[0, 0] = 1.0
    features[1] = [0.5, -0.5, 0.5, -0.5, 0, 0, 0, 0]
    return SegmentContent(features, records, [b"first", b"", b"\x00third\xff"], [Tombstone("photos/gone.jpg", 999)])


if __name__ == "__main__":
    assert FORMAT_VERSION == 1, "version 1 is written by the software that introduced it"
    target = FOLDER / "segment-v1.h5"
    assert not target.exists(), f"{target} is never made again"
    write_segment(FOLDER, target.stem, SPEC, "float32", content())
