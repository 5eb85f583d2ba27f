from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import StoreError
from common.ranking import ExactRanker, Match, scanning
from common.store import FeatureStore, compact
from tests.unit.helpers import SPEC, Vector, make_store, publish, record, segment_file, unit_vectors

Answer = list[tuple[str, float]]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


@pytest.fixture
def ranker(store: FeatureStore) -> ExactRanker:
    return ExactRanker(store)


def put(store: FeatureStore, name: str, features: dict[str, Vector], sequence: int = 1) -> None:
    """Publishes images with features of the test's choice."""
    rows = [record(path, sequence) for path in features]
    store.publish(
        name,
        precision="float32",
        records=rows,
        features=np.array(list(features.values())),
        thumbnails=[b""] * len(rows),
    )


def brute_force(
    features: dict[str, Vector], query: Vector, k: int, keep: Callable[[str], bool] = lambda _: True
) -> Answer:
    """Cosine similarity in double precision of what is stored: the features in half precision."""
    scores = []
    for path, feature in features.items():
        stored = feature.astype(np.float16).astype(np.float64)
        norm = np.linalg.norm(stored)
        if keep(path):
            scores.append((path, float(stored @ query / norm) if norm else 0.0))
    return sorted(scores, key=lambda item: (-item[1], item[0].encode()))[:k]


def paths(matches: list[Match]) -> list[str]:
    return [match.entry.path for match in matches]


def assert_same(matches: list[Match], expected: Answer) -> None:
    assert paths(matches) == [path for path, _ in expected]
    assert [match.score for match in matches] == pytest.approx([score for _, score in expected], abs=1e-9)


def random_images(count: int, seed: int = 0) -> dict[str, Vector]:
    rng = np.random.default_rng(seed)
    folders = ["p", "p/a", "p/a/b", "p/a/bc", "q/a"]
    return {
        f"{folders[rng.integers(len(folders))]}/{number}.jpg": vector
        for number, vector in enumerate(unit_vectors(count, seed))
    }


@pytest.fixture
def images(store: FeatureStore) -> dict[str, Vector]:
    """1,500 images in five segments."""
    everything = random_images(1500)
    names = list(everything)
    for number in range(5):
        put(store, f"s{number}", {name: everything[name] for name in names[number::5]})
    return everything


@pytest.mark.parametrize("k", [1, 7, 30, 1000, 1499, 1500, 5000])
def test_it_equals_brute_force(ranker: ExactRanker, images: dict[str, Vector], k: int) -> None:
    for query in unit_vectors(20, seed=99):
        assert_same(ranker.search(query, k), brute_force(images, query, k))


def test_blocks_do_not_change_the_answer(
    ranker: ExactRanker, images: dict[str, Vector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_BLOCK_ROWS", 64)
    for query in unit_vectors(10, seed=98):
        assert_same(ranker.search(query, 50), brute_force(images, query, 50))


def test_threads_do_not_change_the_answer(
    store: FeatureStore, images: dict[str, Vector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_BLOCK_ROWS", 50)
    ranker = ExactRanker(store, threads=3)
    for query in unit_vectors(10, seed=92):
        assert_same(ranker.search(query, 50), brute_force(images, query, 50))
        below = brute_force(images, query, 50, lambda path: path.startswith("p/a/"))
        assert_same(ranker.search(query, 50, folder="p/a"), below)


def test_an_image_finds_itself_first_with_score_1(ranker: ExactRanker, images: dict[str, Vector]) -> None:
    for path, vector in list(images.items())[::150]:
        best = ranker.search(vector, 1)[0]
        assert best.entry.path == path
        assert best.score == pytest.approx(1, abs=1e-3)
        assert best.distance == pytest.approx(0, abs=1e-2)


def test_the_distance_is_that_of_normalised_features(ranker: ExactRanker, images: dict[str, Vector]) -> None:
    (query,) = unit_vectors(1, seed=97)
    for match in ranker.search(query, 100):
        stored = images[match.entry.path].astype(np.float16).astype(np.float64)
        assert match.distance == pytest.approx(np.linalg.norm(stored / np.linalg.norm(stored) - query), abs=1e-9)
        assert match.distance**2 == pytest.approx(2 - 2 * match.score, abs=1e-5)


def test_features_that_lost_their_length_in_storage_are_ranked_by_angle(
    store: FeatureStore, ranker: ExactRanker
) -> None:
    # Half precision changes the length: `long` is a little longer, and yet the angle of `exact` is smaller.
    query = unit_vectors(1, seed=3)[0]
    rng = np.random.default_rng(5)
    images = {}
    for number in range(400):
        near = query + rng.normal(size=SPEC.dimension) * 2e-3
        images[f"p/{number:03}"] = (near / np.linalg.norm(near)).astype(np.float32)
    put(store, "s", images)
    for k in (1, 5, 50):
        assert_same(ranker.search(query, k), brute_force(images, query, k))


@pytest.mark.parametrize("k", [1, 3, 10, 39, 40, 100])
def test_ties_are_in_the_order_of_their_paths_also_at_the_end(store: FeatureStore, ranker: ExactRanker, k: int) -> None:
    same, other = unit_vectors(2, seed=1)
    images = {f"p/{number * 7 % 40:02}.jpg": same for number in range(40)}
    for number in range(4):
        put(store, f"s{number}", dict(list(images.items())[number::4]))
    put(store, "other", {"p/00-other.jpg": other})
    assert paths(ranker.search(same, k)) == [*sorted(images), "p/00-other.jpg"][:k]


# --- filters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["p", "p/a", "p/a/b", "p/a/bc", "q", "q/a", "p/a/c", "nowhere"])
@pytest.mark.parametrize("k", [5, 5000])
def test_a_folder_holds_what_is_below_it_at_any_depth(
    ranker: ExactRanker, images: dict[str, Vector], folder: str, k: int
) -> None:
    (query,) = unit_vectors(1, seed=96)
    expected = brute_force(images, query, k, lambda path: path.startswith(f"{folder}/"))
    assert_same(ranker.search(query, k, folder=folder), expected)


@pytest.mark.parametrize("min_score", [-1, 0, 0.5, 0.9, 1])
def test_only_images_with_the_least_score_are_returned(
    ranker: ExactRanker, images: dict[str, Vector], min_score: float
) -> None:
    (query,) = unit_vectors(1, seed=95)
    expected = [item for item in brute_force(images, query, 5000) if item[1] >= min_score]
    assert_same(ranker.search(query, 5000, min_score=min_score), expected)


def test_filters_work_together(ranker: ExactRanker, images: dict[str, Vector]) -> None:
    (query,) = unit_vectors(1, seed=94)
    expected = brute_force(images, query, 20, lambda path: path.startswith("p/a/"))
    found = ranker.search(query, 20, folder="p/a", min_score=0.7)
    assert_same(found, [item for item in expected if item[1] >= 0.7])
    assert found


# --- edges -------------------------------------------------------------------------------------------------------


def test_an_empty_store_gives_an_empty_answer(ranker: ExactRanker) -> None:
    query = unit_vectors(1)[0]
    assert ranker.search(query, 10) == []
    assert ranker.search(query, 10, folder="p", min_score=0.5) == []


def test_a_query_of_zeros_gives_the_first_paths_with_score_0(ranker: ExactRanker, images: dict[str, Vector]) -> None:
    zeros = np.zeros(SPEC.dimension, np.float32)
    matches = ranker.search(zeros, 5)
    assert paths(matches) == sorted(images, key=str.encode)[:5]
    assert [match.score for match in matches] == [0] * 5
    assert [match.distance for match in matches] == pytest.approx([1] * 5)
    assert paths(ranker.search(zeros, 3, folder="q")) == sorted(path for path in images if path[0] == "q")[:3]
    assert ranker.search(zeros, 5, min_score=0.1) == []


def test_a_stored_feature_of_zeros_has_score_0(store: FeatureStore, ranker: ExactRanker) -> None:
    query = unit_vectors(1)[0]
    put(store, "s", {"p/zero": np.zeros(SPEC.dimension, np.float32), "p/same": query, "p/opposite": -query})
    matches = ranker.search(query, 3)
    assert paths(matches) == ["p/same", "p/zero", "p/opposite"]
    assert [match.score for match in matches] == pytest.approx([1, 0, -1], abs=1e-3)
    assert [match.distance for match in matches] == pytest.approx([0, 1, 2], abs=1e-3)


# --- keeping up --------------------------------------------------------------------------------------------------


def test_new_removed_and_changed_images_count_at_once(store: FeatureStore, ranker: ExactRanker) -> None:
    a, b, c = np.eye(3, SPEC.dimension, dtype=np.float32)
    put(store, "s1", {"p/a": a, "p/b": b})
    assert paths(ranker.search(a, 9)) == ["p/a", "p/b"]
    put(store, "s2", {"p/c": (a + c) / np.sqrt(2)})
    assert paths(ranker.search(a, 9)) == ["p/a", "p/c", "p/b"]
    publish(store, "s3", [], {"p/a": 5})
    assert paths(ranker.search(a, 9)) == ["p/c", "p/b"]
    put(store, "s4", {"p/b": a}, sequence=7)
    assert paths(ranker.search(a, 9)) == ["p/b", "p/c"]
    segment_file(store, "s4").unlink()
    assert paths(ranker.search(a, 9)) == ["p/c", "p/b"]


def test_a_compaction_changes_no_answer(store: FeatureStore, ranker: ExactRanker, images: dict[str, Vector]) -> None:
    (query,) = unit_vectors(1, seed=93)
    expected = brute_force(images, query, 40)
    assert_same(ranker.search(query, 40), expected)
    compact(make_store(store.path.parents[1], cache="another-host"))
    assert_same(ranker.search(query, 40), expected)
    publish(store, "more", ["z/more"])
    compact(store)
    assert_same(ranker.search(query, 40, folder="q"), brute_force(images, query, 40, lambda path: path[0] == "q"))


def test_a_store_that_never_rests_is_an_error_not_an_empty_answer(
    ranker: ExactRanker, store: FeatureStore, images: dict[str, Vector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.catalog, "by_rows", lambda _: {})
    with pytest.raises(StoreError, match="search again"):
        ranker.search(unit_vectors(1)[0], 5)


def test_searches_from_many_threads_stay_right_while_segments_come_and_go(
    store: FeatureStore, ranker: ExactRanker, images: dict[str, Vector]
) -> None:
    stop = threading.Event()
    wrong: list[object] = []

    def search(seed: int) -> None:
        (query,) = unit_vectors(1, seed)
        expected = [path for path, _ in brute_force(images, query, 20, lambda path: path[0] == "p")]
        try:
            while not stop.is_set():
                found = paths(ranker.search(query, 20, folder="p" if seed % 2 else None))
                # What comes and goes lies in a root of its own.
                if seed % 2 and found != expected:
                    wrong.append(found)
                if len(found) < 20:
                    wrong.append(found)
        except Exception as error:  # noqa: BLE001 - handed to the test
            wrong.append(error)

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(80, 84)]
    for thread in threads:
        thread.start()
    for number in range(12):
        put(store, f"job{number}", {f"z/{number}-{row}": vector for row, vector in enumerate(unit_vectors(9, number))})
        if number % 4 == 3:
            compact(store)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
