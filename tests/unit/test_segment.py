from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from common.errors import SegmentDamaged, StoreError, UnsupportedFormatVersion
from common.store import FeatureStore, ImageRecord, Segment, Tombstone
from common.store.segment import FORMAT_VERSION, SegmentContent, write_segment
from tests.data.make_segment_v1 import SPEC as SPEC_V1
from tests.unit.helpers import (
    SPEC,
    feature_of,
    live,
    make_store,
    publish,
    record,
    segment_file,
    start_python,
    thumbnail_of,
    unit_vectors,
)

SEGMENT_V1 = Path(__file__).parents[1] / "data" / "segment-v1.h5"


def content_of(records: Sequence[ImageRecord], tombstones: Sequence[Tombstone] = ()) -> SegmentContent:
    features = np.array([feature_of(row) for row in records], np.float32).reshape(len(records), SPEC.dimension)
    return SegmentContent(features, records, [thumbnail_of(row) for row in records], tombstones)


def write(folder: Path, records: Sequence[ImageRecord], name: str = "s", **options: Sequence[Tombstone]) -> Path:
    return write_segment(folder, name, SPEC, "float32", content_of(records, **options))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound segment of 50 rows."""
    return write(tmp_path, [record(f"photos/{number}.jpg") for number in range(50)])


# --- round trip --------------------------------------------------------------------------------------------------


def test_every_field_comes_back(tmp_path: Path) -> None:
    records = [
        ImageRecord("photos", "a.jpg", 0, 0, b"\0" * 32, 0, 0, 0),
        ImageRecord("photos", "日本/ü\n \\x.png", 2**63, -(2**62), bytes(range(32)), 2**32 - 1, 2**32 - 1, 2**63 - 1),
        ImageRecord("scans", "deep/" * 200 + "x.tif", 17, 2**62, b"\xff" * 32, 640, 480, 12),
    ]
    tombstones = [Tombstone("photos/gone.jpg", 2**63 - 1), Tombstone("scans/ä", 0)]
    features = unit_vectors(3, seed=4)
    thumbnails = [b"", b"\0\xff" * 500, b"x"]
    path = write_segment(tmp_path, "job-1", SPEC, "bfloat16", SegmentContent(features, records, thumbnails, tombstones))

    segment = Segment(path)
    assert segment.name == "job-1"
    assert (segment.count, segment.dimension, segment.precision) == (3, 8, "bfloat16")
    assert (segment.spec, segment.fingerprint) == (SPEC, SPEC.fingerprint)
    assert segment.features.dtype == np.float16
    assert np.array_equal(segment.features, features.astype(np.float16))
    assert segment.records() == records
    assert segment.tombstones() == tombstones
    assert [segment.thumbnail(row) for row in range(3)] == thumbnails
    assert list(segment.thumbnails([2, 0, 1])) == [thumbnails[2], thumbnails[0], thumbnails[1]]
    assert segment.verify() == []


def test_row_i_of_every_part_belongs_to_record_i(path: Path) -> None:
    segment = Segment(path)
    for row, item in enumerate(segment.records()):
        assert np.array_equal(segment.features[row], feature_of(item).astype(np.float16))
        assert segment.thumbnail(row) == thumbnail_of(item)


def test_a_segment_of_tombstones_alone_comes_back(tmp_path: Path) -> None:
    segment = Segment(write(tmp_path, [], tombstones=[Tombstone("photos/a", 5)]))
    assert segment.count == 0
    assert segment.features.shape == (0, SPEC.dimension)
    assert segment.records() == []
    assert segment.tombstones() == [Tombstone("photos/a", 5)]
    assert segment.verify() == []


def test_features_are_mapped_read_only_at_a_page(tmp_path: Path) -> None:
    features = Segment(write(tmp_path, [record(f"photos/{number}") for number in range(300)])).features
    assert isinstance(features, np.memmap)
    assert features.offset % 4096 == 0
    with pytest.raises(ValueError, match="read-only"):
        features[0, 0] = 1


def test_a_mapping_outlives_its_file(path: Path) -> None:
    segment = Segment(path)
    expected = np.array(segment.features)
    path.unlink()
    assert np.array_equal(segment.features, expected)
    with pytest.raises(FileNotFoundError):
        segment.records()
    with pytest.raises(FileNotFoundError):
        Segment(path)


@pytest.mark.parametrize(("rows", "dimension", "thumbnails"), [(2, 8, 2), (3, 7, 3), (3, 8, 2), (0, 8, 0)])
def test_parts_of_different_length_are_refused(tmp_path: Path, rows: int, dimension: int, thumbnails: int) -> None:
    records = [record(f"photos/{number}") for number in range(3)]
    content = SegmentContent(np.zeros((rows, dimension), np.float32), records, [b""] * thumbnails)
    with pytest.raises(ValueError, match="3 records"):
        write_segment(tmp_path, "s", SPEC, "float32", content)
    assert list(tmp_path.iterdir()) == []


# --- whole or not at all -----------------------------------------------------------------------------------------


def test_a_writer_that_raises_midway_leaves_nothing(tmp_path: Path) -> None:
    bad = [record("photos/a"), ImageRecord("photos", "lone \udcff surrogate", 1, 1, b"\0" * 32, 1, 1, 1)]
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path, bad)
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_segments_of_one_name_is_kept(tmp_path: Path) -> None:
    first = write(tmp_path, [record("photos/a")])
    before = first.read_bytes()
    assert write(tmp_path, [record("photos/b"), record("photos/c")]) == first
    assert first.read_bytes() == before
    assert list(tmp_path.iterdir()) == [first]


WRITER = """
import sys
from pathlib import Path
from common.store.segment import SegmentContent
from tests.unit.helpers import feature_of, make_store, record
import numpy as np

store = make_store(Path(sys.argv[1]), cache="writer")
records = [record(f"photos/{n}.jpg") for n in range(300)]
features = np.array([feature_of(row) for row in records])
number = 0
print("ready", flush=True)
while True:
    store.publish(f"job-{number:06}", precision="float32", records=records, features=features,
                  thumbnails=[b"x" * 9000] * len(records))
    number += 1
"""


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.11])
def test_a_writer_that_is_killed_leaves_a_readable_store(tmp_path: Path, delay: float) -> None:
    writer = start_python(WRITER, tmp_path)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    with pytest.raises(Exception, match="timed out"):
        writer.wait(delay + 0.05)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL

    store = make_store(tmp_path)
    store.refresh()
    assert store.damaged == {}
    assert all(problems == [] for _, problems in store.verify())
    published = [path for path in store.segments_path.iterdir() if path.suffix == ".h5"]
    assert len(store.catalog.segments()) == len(published)
    publish(store, "next", ["photos/next.jpg"])
    assert "photos/next.jpg" in live(store)


# --- damage ------------------------------------------------------------------------------------------------------


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(data)


def test_verify_names_flipped_bytes_in_the_features(path: Path) -> None:
    flip(path, Segment(path).features.offset + 5)  # type: ignore[attr-defined]
    assert Segment(path).verify() == ["features differs from its checksum"]


@pytest.mark.parametrize("key", ["size", "content_hash", "thumbnails", "path", "tombstone_sequence", "sequence"])
def test_verify_names_a_changed_column(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, [record("photos/a"), record("photos/b")], tombstones=[Tombstone("photos/c", 1)])
    with h5py.File(path, "r+") as file:
        file[key][0] = "photos/z" if key == "path" else file[key][0] + 1
    assert Segment(path).verify() == [f"{key} differs from its checksum"]


def test_verify_names_values_that_are_no_numbers(tmp_path: Path) -> None:
    features = np.array([[np.nan] * 8], np.float32)
    path = write_segment(tmp_path, "s", SPEC, "float32", SegmentContent(features, [record("photos/a")], [b""]))
    assert Segment(path).verify() == ["features hold values that are no numbers"]


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_damaged(path: Path, part: float) -> None:
    with path.open("rb+") as file:
        file.truncate(int(path.stat().st_size * part))
    with pytest.raises(SegmentDamaged, match=r"Segment s\.h5 is damaged"):
        Segment(path)


@pytest.mark.parametrize("data", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n", b"\0" * 10_000])
def test_a_file_that_is_no_hdf5_is_damaged(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes(data)
    with pytest.raises(SegmentDamaged) as caught:
        Segment(path)
    assert caught.value.path == path


def test_another_hdf5_file_is_no_segment(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((2, 2))
    with pytest.raises(SegmentDamaged, match="not a segment"):
        Segment(path)


def test_a_newer_format_is_refused_by_its_number(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(UnsupportedFormatVersion, match=r"format version 2; this software reads up to 1"):
        Segment(path)


@pytest.mark.parametrize("attribute", ["format_version", "model", "fingerprint", "precision", "created", "sha256"])
@pytest.mark.parametrize("value", [None, "nonsense"])
def test_a_bad_attribute_is_damage(path: Path, attribute: str, value: str | None) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs[attribute]
        if value is not None:
            file.attrs[attribute] = value
    if value and attribute in {"fingerprint", "precision", "created"}:
        assert getattr(Segment(path), attribute) == value
    else:
        with pytest.raises(SegmentDamaged):
            Segment(path)


@pytest.mark.parametrize("dataset", ["roots", "root", "path", "size", "content_hash", "sequence", "features"])
def test_a_missing_dataset_is_damage(path: Path, dataset: str) -> None:
    with h5py.File(path, "r+") as file:
        del file[dataset]
    with pytest.raises(SegmentDamaged):
        Segment(path).records()


@pytest.mark.parametrize("dataset", ["tombstone_path", "tombstone_sequence"])
def test_missing_tombstones_are_damage(path: Path, dataset: str) -> None:
    with h5py.File(path, "r+") as file:
        del file[dataset]
    with pytest.raises(SegmentDamaged):
        Segment(path).tombstones()


def test_columns_that_do_not_fit_each_other_are_damage(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        sizes = file["size"][:10]
        del file["size"]
        file["size"] = sizes
    with pytest.raises(SegmentDamaged):
        Segment(path).records()


def test_random_damage_is_never_another_error(path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    data = path.read_bytes()
    victim = tmp_path / "victim.h5"
    found = 0
    for _ in range(150):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 4):
            damaged[position] = rng.integers(256)
        victim.unlink(missing_ok=True)
        victim.write_bytes(damaged)
        try:
            segment = Segment(victim)
            found += bool(segment.verify())
            segment.records()
            segment.tombstones()
            list(segment.thumbnails(range(segment.count)))
        except StoreError:
            found += 1
    assert found > 50


# --- old files ---------------------------------------------------------------------------------------------------


def test_a_segment_of_format_version_1_is_read_exactly() -> None:
    segment = Segment(SEGMENT_V1)
    assert segment.fingerprint == "9856bf1b2445d420"
    assert (segment.count, segment.dimension, segment.precision) == (3, 8, "float32")
    assert segment.spec.name == "fixture/fc"
    assert segment.features.tolist() == [
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.5, -0.5, 0.5, -0.5, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]
    assert segment.records() == [
        ImageRecord("photos", "2019/a.jpg", 1234, 1_546_300_800_000_000_001, bytes(range(32)), 640, 480, 1000),
        ImageRecord("photos", "2019/übung 日本.png", 2**33, -1, bytes(range(32, 64)), 4000, 3000, 1001),
        ImageRecord("scans", "b.tif", 0, 0, b"\xff" * 32, 1, 1, 1_700_000_000_000_000_000),
    ]
    assert [segment.thumbnail(row) for row in range(3)] == [b"first", b"", b"\x00third\xff"]
    assert segment.tombstones() == [Tombstone("photos/gone.jpg", 999)]
    assert segment.verify() == []


def test_a_store_takes_in_a_segment_of_format_version_1(tmp_path: Path) -> None:
    store: FeatureStore = make_store(tmp_path, SPEC_V1)
    shutil.copy(SEGMENT_V1, segment_file(store, "old"))
    assert live(store) == {
        "photos/2019/a.jpg": 1000,
        "photos/2019/übung 日本.png": 1001,
        "scans/b.tif": 1_700_000_000_000_000_000,
    }
