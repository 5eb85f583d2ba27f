from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from common.ranking import bases
from common.ranking.bases import BasisFolder, is_outgrown, train_if_outgrown
from common.ranking.basis import Basis
from common.ranking.checked import DamagedFile
from common.store import FeatureStore
from tests.unit.helpers import unit_vectors
from tests.unit.ranking.building import DIMENSION, made_features, open_store, put


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(tmp_path)


def fill(store: FeatureStore, name: str, count: int) -> None:
    put(store, name, [f"p/{name}/{row}" for row in range(count)], made_features(count, seed=len(name)))


def test_products_of_reduced_features_stand_for_those_of_features() -> None:
    features = made_features(3000)
    basis = Basis.train(features, images=3000)
    assert basis.dimension == DIMENSION
    assert np.allclose(basis.matrix.T @ basis.matrix, np.eye(DIMENSION), atol=1e-4)
    centred = features - features.mean(axis=0)
    reduced = basis.project(features[:50].astype(np.float16))
    assert np.allclose(reduced @ basis.query(features[7]), centred[:50] @ centred[7], atol=2e-3)


def test_reducing_keeps_what_varies_most() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(2000, 20)) @ rng.normal(size=(20, 600))
    sample = few + 0.01 * rng.normal(size=few.shape)
    basis = Basis.train(sample, images=2000)
    assert basis.matrix.shape == (600, 256)
    kept = basis.project(sample)
    assert (kept**2).sum() > 0.999 * ((sample - sample.mean(axis=0)) ** 2).sum()


@pytest.mark.parametrize(("count", "dimension"), [(1, 8), (3, 8), (20, 5), (40, 100), (300, 12)])
def test_a_basis_is_made_of_however_little(count: int, dimension: int) -> None:
    sample = unit_vectors(count, dimension=dimension)
    basis = Basis.train(sample, images=count)
    assert basis.dimension % 8 == 0
    assert basis.code_bytes == basis.dimension // 8
    assert basis.project(sample).shape == (count, basis.dimension)
    assert np.isfinite(basis.project(sample)).all()
    assert np.isfinite(basis.codebook).all()


def test_equal_features_make_a_basis() -> None:
    basis = Basis.train(np.repeat(unit_vectors(1), 50, axis=0), images=50)
    assert np.isfinite(basis.query(unit_vectors(1, seed=1)[0])).all()


def test_a_saved_basis_is_the_same(tmp_path: Path) -> None:
    basis = Basis.train(made_features(500), images=700)
    basis.save(tmp_path / "b")
    loaded = Basis.load(tmp_path / "b")
    assert (loaded.id, loaded.images) == (basis.id, 700)
    query = made_features(1, seed=9)[0]
    assert np.array_equal(loaded.query(query), basis.query(query))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another file"])
def test_a_damaged_basis_is_noticed_and_deleted(
    store: FeatureStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = BasisFolder(store.path)
    good, bad = (Basis.train(made_features(100), images=images) for images in (100, 200))
    folder.publish(good)
    folder.publish(bad)
    path = folder.path / f"{bad.id}.basis"
    data = path.read_bytes()
    middle = len(data) // 2
    contents = {
        "cut": data[:-100],
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "empty": b"",
        "another file": b"x" * 1000,
    }
    path.write_bytes(contents[damage])
    with pytest.raises(DamagedFile):
        Basis.load(path)
    with caplog.at_level(logging.WARNING):
        newest = folder.newest()
    assert newest is not None
    assert newest.id == good.id
    assert not path.exists()
    assert path.name in caplog.text


def test_the_newest_two_bases_are_kept(store: FeatureStore) -> None:
    folder = BasisFolder(store.path)
    published = [Basis.train(made_features(50), images=count) for count in (1, 2, 3, 4)]
    for basis in published:
        folder.publish(basis)
    assert folder.ids() == [published[3].id, published[2].id]


@pytest.mark.parametrize(
    ("images", "trained_on", "due"),
    [(99, None, False), (100, None, True), (399, 100, False), (400, 100, True), (50, 10, False)],
)
def test_a_basis_is_due_at_the_switch_and_when_the_collection_has_outgrown_it(
    images: int, trained_on: int | None, due: bool
) -> None:
    basis = None if trained_on is None else Basis.train(made_features(20), images=trained_on)
    assert is_outgrown(images, basis, two_stages_from=100) is due


def test_training_happens_once_and_again_when_it_is_due(store: FeatureStore) -> None:
    fill(store, "a", 90)
    assert train_if_outgrown(store, two_stages_from=100) is None
    fill(store, "bb", 60)
    first = train_if_outgrown(store, two_stages_from=100)
    assert first is not None
    assert first.images == 150
    assert train_if_outgrown(store, two_stages_from=100) is None
    fill(store, "ccc", 450)
    second = train_if_outgrown(store, two_stages_from=100)
    assert second is not None
    assert BasisFolder(store.path).ids() == [second.id, first.id]


def test_a_sample_is_taken_from_all_segments(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "SAMPLE_ROWS", 60)
    sizes = []
    train = Basis.train
    monkeypatch.setattr(
        Basis, "train", lambda sample, images: sizes.append(sample.shape) or train(sample, images=images)
    )
    for name in ("a", "bb", "ccc"):
        fill(store, name, 50)
    assert train_if_outgrown(store, two_stages_from=100) is not None
    assert sizes == [(60, DIMENSION)]
