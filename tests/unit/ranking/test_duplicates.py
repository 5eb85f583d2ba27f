"""Groups of near-duplicates, against a comparison of all pairs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from common.ranking import duplicates
from common.ranking.components import Components
from common.ranking.duplicates import find_groups
from common.store import FeatureStore, Tombstone, image_id
from tests.unit.helpers import SPEC, Vector, make_store, record

WIDE = SPEC.model_copy(update={"dimension": 512})


def photo_like(count: int, seed: int = 0) -> Vector:
    """Features as a network gives them: not negative, in clusters, of a low inner dimension."""
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(40, 512))
    features = topics[rng.integers(0, 40, count)] + rng.normal(size=(count, 60)) @ rng.normal(size=(60, 512)) * 0.25
    features = np.maximum(features + rng.normal(size=(count, 512)) * 0.3, 0)
    return normalised(features)


def normalised(features: np.ndarray) -> Vector:
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def recompressed(features: Vector, strength: float, seed: int = 1) -> Vector:
    """The features of the same pictures with other JPEG artefacts: cosine about 1 - strength² / 2."""
    noise = np.random.default_rng(seed).normal(size=features.shape) / np.sqrt(features.shape[1])
    return normalised(np.maximum(features + strength * noise, 0))


def add(
    store: FeatureStore, name: str, paths: Sequence[str], features: Vector, contents: Sequence[str] | None = None
) -> None:
    rows = [record(path, content=content) for path, content in zip(paths, contents or paths, strict=True)]
    store.publish(name, precision="float32", records=rows, features=features, thumbnails=[b""] * len(rows))


def brute_force(features: Vector, min_score: float) -> set[frozenset[int]]:
    """The groups, from all pairs."""
    halves = normalised(features.astype(np.float16).astype(np.float32))
    groups = Components(len(halves))
    for first, second in np.argwhere(halves @ halves.T >= min_score).tolist():
        groups.join(first, second, 1.0)
    return {frozenset(members) for _, members in groups.larger_than_one()}


def paths_of(count: int) -> list[str]:
    return [f"photos/{number:05}.jpg" for number in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path, WIDE)


@pytest.mark.parametrize("min_score", [0.9, 0.97, 0.995])
def test_what_all_pairs_would_give_is_found(store: FeatureStore, min_score: float) -> None:
    originals = photo_like(3000)
    copies = [
        recompressed(originals[:400], 0.05),
        recompressed(originals[:100], 0.1, 2),
        recompressed(originals[50:300], 0.2, 3),
    ]
    features = np.concatenate([originals, *copies])
    shuffled = np.random.default_rng(5).permutation(len(features))
    features = features[shuffled]
    paths = paths_of(len(features))
    for part in range(3):
        rows = slice(part * 1300, (part + 1) * 1300)
        add(store, f"part-{part}", paths[rows], features[rows])
    numbers = {image_id(path): number for number, path in enumerate(paths)}
    found = {frozenset(numbers[name] for name in group.image_ids) for group in find_groups(store, min_score)}
    expected = brute_force(features, min_score)
    assert len(expected) > 300
    # Every group that is found is one; of those there are, hardly any is missed or in two parts.
    assert len(found & expected) >= 0.99 * len(expected)
    assert len(found) <= 1.01 * len(expected)


def test_images_of_the_same_content_are_a_group_whatever_their_feature(store: FeatureStore) -> None:
    features = photo_like(5)
    features[3] = features[0]
    features[4] = 0
    contents = ["a", "b", "c", "a", "d"]
    add(store, "one", paths_of(5), features, contents)
    zeros = np.zeros((2, 512), np.float32)
    add(store, "two", ["photos/x.jpg", "photos/y.jpg"], zeros, ["d", "e"])
    groups = {frozenset(group.image_ids) for group in find_groups(store, 0.999)}
    named = [{"photos/00000.jpg", "photos/00003.jpg"}, {"photos/00004.jpg", "photos/x.jpg"}]
    assert groups == {frozenset(map(image_id, paths)) for paths in named}


def test_the_scores_are_those_of_the_pairs_that_connect_the_group(store: FeatureStore) -> None:
    angles = np.radians([0, 8, 20, 90])
    features = np.zeros((4, 512), np.float32)
    features[:, 0], features[:, 1] = np.cos(angles), np.sin(angles)
    add(store, "one", paths_of(4), features)
    (group,) = find_groups(store, 0.97)
    # 0° and 20° are connected through 8°, although their own score is 0.94.
    assert set(group.image_ids) == {image_id(path) for path in paths_of(3)}
    assert group.best == pytest.approx(np.cos(np.radians(8)), abs=1e-3)
    assert group.lowest == pytest.approx(np.cos(np.radians(12)), abs=1e-3)


def test_groups_come_by_size_and_then_by_their_best_score(store: FeatureStore) -> None:
    originals = photo_like(40)
    features = np.concatenate(
        [
            originals,
            recompressed(originals[:3], 0.15),
            recompressed(originals[:1], 0.1, 2),
            recompressed(originals[5:6], 0.02),
        ]
    )
    add(store, "one", paths_of(45), features)
    groups = find_groups(store, 0.97)
    assert [len(group.image_ids) for group in groups] == [3, 2, 2, 2]
    assert image_id("photos/00005.jpg") in groups[1].image_ids
    bests = [group.best for group in groups[1:]]
    assert bests == sorted(bests, reverse=True)


def test_a_thousand_equal_features_are_one_group(store: FeatureStore) -> None:
    features = np.repeat(photo_like(1), 1000, axis=0)
    add(store, "one", paths_of(1000), features)
    (group,) = find_groups(store, 1.0)
    assert (len(group.image_ids), group.lowest) == (1000, pytest.approx(1, abs=1e-6))


def test_only_a_folder_and_only_live_images_are_looked_at(store: FeatureStore) -> None:
    features = np.repeat(photo_like(1), 6, axis=0)
    paths = [f"photos/{folder}/{number}.jpg" for folder in "ab" for number in range(3)]
    add(store, "one", paths, features)
    store.publish("gone", precision="float32", tombstones=[Tombstone(paths[0], 2)])
    assert len(find_groups(store, 0.97)[0].image_ids) == 5
    (group,) = find_groups(store, 0.97, folder="photos/a")
    assert set(group.image_ids) == {image_id(path) for path in paths[1:3]}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_collections_have_no_groups(store: FeatureStore, count: int) -> None:
    add(store, "one", paths_of(count), photo_like(max(count, 1))[:count])
    assert find_groups(store, 0.97) == []


def test_the_progress_ends_with_all(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK_ROWS", 10)
    add(store, "one", paths_of(35), photo_like(35), ["same"] * 5 + paths_of(30))
    seen: list[tuple[int, int]] = []
    with warnings.catch_warnings():
        find_groups(store, 0.97, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 35)
    assert seen[-1] == (35, 35)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) > 3
