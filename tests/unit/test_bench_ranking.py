"""What the measurements of ranking compare with is right: made up features, true answers, recall."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.made_features import MadeFeatures
from benchmarks.ranking_world import World, is_rare, number_of
from common.ranking import ExactRanker
from common.store import open_store

IMAGES, QUERIES = 6000, 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("worlds") / "world", MadeFeatures(IMAGES, dimension=64), QUERIES)


def test_made_features_look_like_those_of_a_network() -> None:
    features = MadeFeatures(100, dimension=256).rows(0, 100).astype(np.float32)
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-3)
    assert features.min() == 0
    assert 0.2 < (features == 0).mean() < 0.9


def test_made_features_are_the_same_again_and_in_parts() -> None:
    source = MadeFeatures(10_000, dimension=64)
    again = MadeFeatures(10_000, dimension=64)
    assert np.array_equal(source.rows(0, 10_000)[8192:], again.rows(8192, 10_000))


def test_held_out_and_added_features_are_others() -> None:
    source = MadeFeatures(100, dimension=64)
    rows = source.rows(0, 100).astype(np.float32)
    assert not np.allclose(source.held_out(100), rows, atol=1e-2)
    assert not np.allclose(source.more(100, 0), source.more(100, 1), atol=1e-2)


def test_the_true_answers_are_those_of_comparing_everything(world: World) -> None:
    features = world.features(range(IMAGES))
    for number, query in enumerate(world.queries):
        best = np.argsort(-(features @ query))[:30]
        assert world.truth.numbers[number].tolist() == best.tolist()


def test_the_exact_ranker_has_full_recall(world: World) -> None:
    with world.copy() as settings:
        ranker = ExactRanker(open_store(settings))
        found = [[number_of(match.entry.path) for match in ranker.search(query, 10)] for query in world.queries]
    assert world.recall(found) == 1
    assert all(set(numbers) <= true for numbers, true in zip(found, world.true_numbers(), strict=True))


def test_recall_counts_what_is_missing_and_nothing_twice(world: World) -> None:
    best = world.truth.numbers.tolist()
    assert world.recall([numbers[:7] + numbers[20:23] for numbers in best]) == pytest.approx(0.7)
    assert world.recall([numbers[:1] * 10 for numbers in best]) == pytest.approx(0.1)
    assert world.recall([[] for _ in best]) == 0


def test_a_copy_has_the_same_images_and_is_gone_afterwards(world: World) -> None:
    with world.copy() as settings:
        store = open_store(settings)
        assert not store.refresh()  # the catalog is known
        assert len(store) == IMAGES
        world.publish(store, "more", world.source.held_out(3), IMAGES)
        store.refresh()
        assert len(store) == IMAGES + 3
    assert not settings.data_dir.exists()
    assert len(open_store(world.settings)) == IMAGES


def test_a_world_is_made_once(world: World) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in world.folder.rglob("*.h5"))
    again = World(world.folder, world.source, QUERIES)
    assert sorted((path, path.stat().st_mtime_ns) for path in world.folder.rglob("*.h5")) == before
    assert np.array_equal(again.truth.numbers, world.truth.numbers)


def test_one_image_in_ten_thousand_is_rare(world: World) -> None:
    assert sum(map(is_rare, range(100_000))) == 10
    rare = [entry.path for entry in open_store(world.settings).catalog.below("made/rare")]
    assert [number_of(path) for path in rare] == [5000]
