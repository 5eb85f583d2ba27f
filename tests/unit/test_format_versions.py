"""Stores that another version of the software has written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from common.errors import UnsupportedFormatVersion
from common.store import FeatureStore, compact, export
from common.store.segment import FORMAT_VERSION
from tests.data.make_segment_v1 import SPEC as SPEC_V1
from tests.data.make_store_v1 import STORE, feature, record
from tests.unit.helpers import SPEC, live, make_store, publish, segment_file, unit_vectors

V1 = {"photos/a.jpg": 2000, "photos/b/c.jpg": 1000, "photos/b/d.jpg": 1000}


@pytest.fixture
def old(tmp_path: Path) -> FeatureStore:
    """A copy of the store of format version 1."""
    shutil.copytree(STORE, tmp_path / "v1")
    return FeatureStore(tmp_path / "v1", SPEC_V1, tmp_path / "cache")


def test_a_store_of_format_version_1_is_read_exactly(old: FeatureStore, tmp_path: Path) -> None:
    assert live(old) == V1
    assert [found for _, found in old.verify()] == [[], [], []]
    entries = list(old.catalog.below(None))
    for number, entry in enumerate(entries):
        assert entry.record == record(number, V1[entry.path])
        assert old.feature(entry).tolist() == feature(number)
    thumbnails = [old.thumbnail(entry) for entry in entries]
    assert thumbnails == [b"thumbnail 0 again", b"thumbnail 1", b"thumbnail 2"]
    assert export(old, tmp_path / "export.h5") == 3


def test_a_store_of_format_version_1_is_written_into(old: FeatureStore, tmp_path: Path) -> None:
    old.publish(
        "new",
        precision="float32",
        records=[record(3, old.next_sequence())],
        features=unit_vectors(1, dimension=SPEC_V1.dimension),
        thumbnails=[b"new"],
    )
    compact(old)
    found = live(FeatureStore(old.path, SPEC_V1, tmp_path / "fresh"))
    assert found.keys() == {*V1, "photos/e.jpg"}
    assert {path: found[path] for path in V1} == V1


def raise_version(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1


def contents(store: FeatureStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "change",
    [
        lambda store, folder: publish(store, "mine", ["p/mine"]),
        lambda store, folder: compact(store),
        lambda store, folder: export(store, folder / "export.h5"),
        lambda store, folder: store.next_sequence(),
    ],
    ids=["index", "compact", "export", "plan"],
)
def test_what_a_newer_software_has_written_is_left_alone(
    tmp_path: Path, change: Callable[[FeatureStore, Path], object]
) -> None:
    store = make_store(tmp_path)
    for name in ("a", "b", "c"):
        publish(store, name, [f"p/{name}"])
    live(store)
    raise_version(segment_file(store, "c"))
    assert live(store) == {"p/a": 1, "p/b": 1}  # what can be read goes on being found
    before = contents(store)
    with pytest.raises(UnsupportedFormatVersion, match=r"c\.h5 has format version 2; this software reads up to 1"):
        change(store, tmp_path)
    assert contents(store) == before
    problems = {name: found for name, found in store.verify() if found}
    assert list(problems) == ["c"]
    assert "Run the software that wrote it" in problems["c"][0]
    segment_file(store, "c").unlink()
    change(make_store(tmp_path), tmp_path)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0])
def test_an_open_store_notices_that_it_was_upgraded(tmp_path: Path, version: int) -> None:
    store = make_store(tmp_path)
    publish(store, "a", ["p/a"])
    # A newer software may have changed everything else in the file.
    (store.path / "store.json").write_text(f'{{"format_version": {version}, "models": []}}')
    before = contents(store)
    for change in (lambda: publish(store, "b", ["p/b"]), lambda: compact(store), lambda: make_store(tmp_path)):
        with pytest.raises(UnsupportedFormatVersion, match=rf"store\.json has format version {version};"):
            change()
    assert contents(store) == before
    assert np.array_equal(store.segment("a").features.shape, (1, SPEC.dimension))
