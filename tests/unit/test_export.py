from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from common.models import ModelSpec
from common.store import FeatureStore, Segment, compact, export
from tests.unit.helpers import SPEC, feature_of, make_store, publish, record


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


def exported(path: Path) -> tuple[list[str], np.ndarray]:
    with h5py.File(path) as file:
        return [text.decode() for text in file["paths"]], file["features"][:]


def test_features_and_paths_are_those_of_the_live_images_in_order(store: FeatureStore, tmp_path: Path) -> None:
    rows = {f"p/{number % 3}/ü{number}.jpg": record(f"p/{number % 3}/ü{number}.jpg", 2) for number in range(40)}
    publish(store, "old", [record(path, 1) for path in list(rows)[:9]])
    publish(store, "s1", list(rows.values())[20:])
    publish(store, "s2", list(rows.values())[:20], {"p/0/ü3.jpg": 5})
    del rows["p/0/ü3.jpg"]
    target = tmp_path / "new folder" / "features.h5"
    assert export(store, target) == 39
    paths, features = exported(target)
    assert paths == sorted(rows, key=str.encode)
    assert features.dtype == np.float32
    assert np.array_equal(features, [feature_of(rows[path]).astype(np.float16) for path in paths])
    with h5py.File(target) as file:
        assert file.attrs["format"] == "imagesearch-export"
        assert ModelSpec.model_validate_json(file.attrs["model"]) == SPEC


def test_an_empty_store_gives_an_empty_file(store: FeatureStore, tmp_path: Path) -> None:
    assert export(store, tmp_path / "features.h5") == 0
    paths, features = exported(tmp_path / "features.h5")
    assert paths == []
    assert features.shape == (0, SPEC.dimension)


def test_an_older_export_is_replaced(store: FeatureStore, tmp_path: Path) -> None:
    target = tmp_path / "features.h5"
    publish(store, "s1", ["p/a"])
    export(store, target)
    publish(store, "s2", ["p/b"])
    assert export(store, target) == 2
    assert exported(target)[0] == ["p/a", "p/b"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["features.h5"]


def test_an_export_that_fails_keeps_the_older_one(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "features.h5"
    publish(store, "s1", ["p/a"])
    export(store, target)
    publish(store, "s2", ["p/b"])

    def fail(_: str) -> Segment:
        raise MemoryError

    monkeypatch.setattr(store, "segment", fail)
    with pytest.raises(MemoryError):
        export(store, target)
    assert exported(target)[0] == ["p/a"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["features.h5"]


def test_a_compaction_meanwhile_does_not_matter(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [record(f"p/{number}.jpg") for number in range(5)]
    for number, row in enumerate(rows):
        publish(store, f"s{number}", [row])
    segment = store.segment

    def segment_after_compaction(name: str) -> Segment:
        monkeypatch.undo()
        compact(make_store(tmp_path, cache="another-host"))
        return segment(name)

    monkeypatch.setattr(store, "segment", segment_after_compaction)
    assert export(store, tmp_path / "features.h5") == 5
    _, features = exported(tmp_path / "features.h5")
    assert np.array_equal(features, [feature_of(row).astype(np.float16) for row in rows])
