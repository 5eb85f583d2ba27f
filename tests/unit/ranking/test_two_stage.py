"""Ranking in two stages against the exact ranking of the same store."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from common.errors import VectorBackendUnavailable
from common.ranking import ExactRanker, codes, two_stage
from common.ranking.basis import Basis
from common.ranking.candidates import FaissCandidates
from common.ranking.protocol import Rows
from common.ranking.two_stage import TwoStageRanker
from common.stopwatch import StopWatch
from common.store import FeatureStore, Tombstone, compact
from tests.unit.helpers import Vector, segment_file
from tests.unit.ranking.building import answers, index_of, made_features, open_store, put

COUNT = 12_000
FOLDERS = ["p", "p/a", "p/a/b", "p/ab", "q/a", "q/b"]
RARE = "p/rare"


@pytest.fixture(scope="module")
def features() -> Vector:
    return made_features(COUNT)


@pytest.fixture(scope="module")
def basis(features: Vector) -> Basis:
    return Basis.train(features[:5000], images=COUNT)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, features: Vector) -> FeatureStore:
    """12,000 images in 12 segments; two of them are in a folder of their own. Nobody changes it."""
    store = open_store(tmp_path_factory.mktemp("large"))
    paths = [f"{FOLDERS[row % len(FOLDERS)]}/{row:05}.jpg" for row in range(COUNT)]
    paths[1234], paths[9876] = f"{RARE}/1.jpg", f"{RARE}/deep/2.jpg"
    for start in range(0, COUNT, 1000):
        put(store, f"s{start:05}", paths[start : start + 1000], features[start : start + 1000])
    return store


@pytest.fixture(scope="module")
def ranker(large: FeatureStore, basis: Basis) -> TwoStageRanker:
    return TwoStageRanker(large, candidates=index_of(large, basis), two_stages_from=1)


@pytest.fixture
def queries() -> Vector:
    return made_features(40, seed=99)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(tmp_path)


def recall(found: list[list[tuple[str, float]]], truth: list[list[tuple[str, float]]]) -> float:
    hits = sum(
        sum(score >= best[-1][1] - 1e-9 for _, score in row) for row, best in zip(found, truth, strict=True) if best
    )
    return hits / sum(map(len, truth))


# --- large collections ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 100])
def test_it_finds_what_the_exact_ranking_finds(
    ranker: TwoStageRanker, large: FeatureStore, queries: Vector, k: int
) -> None:
    truth = answers(ExactRanker(large), queries, k)
    found = answers(ranker, queries, k)
    assert [len(row) for row in found] == [k] * len(queries)
    assert recall(found, truth) >= 0.99


def test_scores_are_those_of_the_exact_ranking(ranker: TwoStageRanker, large: FeatureStore, queries: Vector) -> None:
    for found, exact in zip(answers(ranker, queries, 30), answers(ExactRanker(large), queries, 200), strict=True):
        expected = dict(exact)
        assert [score for path, score in found if path in expected] == [
            expected[path] for path, _ in found if path in expected
        ]
        assert found == sorted(found, key=lambda item: (-item[1], item[0]))


def test_each_image_finds_itself(ranker: TwoStageRanker, features: Vector) -> None:
    for row in range(0, COUNT, 997):
        assert ranker.search(features[row], 1)[0].score == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("folder", [*FOLDERS, RARE, f"{RARE}/deep", "q", "nowhere", "p/a/"])
def test_a_folder_is_searched_at_any_depth(
    ranker: TwoStageRanker, large: FeatureStore, queries: Vector, folder: str
) -> None:
    truth = answers(ExactRanker(large), queries, 10, folder=folder)
    found = answers(ranker, queries, 10, folder=folder)
    assert [len(row) for row in found] == [len(row) for row in truth]
    assert all(path.startswith(f"{folder}/") for row in found for path, _ in row)
    if any(truth):
        assert recall(found, truth) >= 0.99
    if folder.startswith(RARE):
        assert found == truth


def test_only_what_is_similar_enough_is_returned(
    ranker: TwoStageRanker, large: FeatureStore, features: Vector, queries: Vector
) -> None:
    rare = features[[4321]]  # one in 12,000: itself
    (best, second) = answers(ExactRanker(large), rare, 2)[0]
    assert answers(ranker, rare, 100, min_score=(best[1] + second[1]) / 2) == [[best]]
    assert answers(ranker, queries, 100, min_score=1.0) == [[]] * len(queries)
    assert all(score >= 0.8 for row in answers(ranker, queries, 100, min_score=0.8) for _, score in row)


def test_more_than_the_candidates_hold_is_ranked_exactly(
    ranker: TwoStageRanker, large: FeatureStore, queries: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_stage, "MOST_CANDIDATES", 300)
    assert answers(ranker, queries[:3], 150) == answers(ExactRanker(large), queries[:3], 150)


def test_a_query_of_zeros_and_an_empty_store(ranker: TwoStageRanker, store: FeatureStore, basis: Basis) -> None:
    zeros = np.zeros_like(basis.mean)
    assert [match.score for match in ranker.search(zeros, 5)] == [0] * 5
    empty = TwoStageRanker(store, candidates=index_of(store, basis), two_stages_from=0)
    assert empty.search(basis.mean, 5) == []
    assert empty.search(basis.mean, 5, folder="p") == []


def test_a_stored_feature_of_zeros_has_score_0(store: FeatureStore, basis: Basis) -> None:
    same = made_features(1)[0]
    put(store, "s", ["p/zero", "p/same", "p/opposite"], np.stack([np.zeros_like(same), same, -same]))
    ranker = TwoStageRanker(store, candidates=index_of(store, basis), two_stages_from=1)
    assert [match.entry.path for match in ranker.search(same, 3)] == ["p/same", "p/zero", "p/opposite"]


def test_ties_are_in_the_order_of_their_paths(store: FeatureStore, basis: Basis) -> None:
    same = np.repeat(made_features(1), 60, axis=0)
    names = [f"p/{number * 7 % 60:02}.jpg" for number in range(60)]
    for start in range(0, 60, 20):
        put(store, f"s{start}", names[start : start + 20], same[:20])
    ranker = TwoStageRanker(store, candidates=index_of(store, basis), two_stages_from=1)
    for k in (1, 25, 60):
        assert [match.entry.path for match in ranker.search(same[0], k)] == sorted(names)[:k]


def test_the_stages_are_told_apart(ranker: TwoStageRanker, queries: Vector) -> None:
    watch = StopWatch()
    with watch.running():
        ranker.search(queries[0], 5)
    assert watch.took_ms().keys() == {"total", "candidates"}


def test_a_small_collection_is_ranked_exactly(
    store: FeatureStore, basis: Basis, queries: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "s", [f"p/{row}" for row in range(300)], made_features(300))
    index = index_of(store, basis)
    monkeypatch.setattr(index, "search", lambda *_, **__: pytest.fail("the index was asked"))
    expected = answers(ExactRanker(store), queries, 10)
    assert answers(TwoStageRanker(store, candidates=index, two_stages_from=301), queries, 10) == expected
    assert answers(TwoStageRanker(store), queries, 10) == expected


# --- a store that changes ------------------------------------------------------------------------------------


def test_what_no_index_knows_is_compared_all_the_same(store: FeatureStore, basis: Basis, queries: Vector) -> None:
    put(store, "old", [f"p/{row}" for row in range(500)], made_features(500))
    index = index_of(store, basis)
    ranker, exact = TwoStageRanker(store, candidates=index, two_stages_from=1), ExactRanker(store)
    put(store, "new", [f"q/{row}" for row in range(500)], made_features(500, seed=2))
    for _ in ("before", "after"):
        assert recall(answers(ranker, queries, 10), answers(exact, queries, 10)) == 1
        assert answers(ranker, queries, 3, folder="q") == answers(exact, queries, 3, folder="q")
        index.add(store.segment("new"))
        ranker.use(index)


def test_removed_and_changed_images_vanish_at_once(store: FeatureStore, basis: Basis) -> None:
    features = made_features(800)
    put(store, "s", [f"p/{row:03}" for row in range(800)], features)
    ranker = TwoStageRanker(store, candidates=index_of(store, basis), two_stages_from=1)
    assert ranker.search(features[5], 1)[0].entry.path == "p/005"
    put(store, "changed", ["p/005"], features[[77]], sequence=5)
    assert "p/005" not in [match.entry.path for match in ranker.search(features[5], 1)]
    assert {match.entry.path for match in ranker.search(features[77], 2)} == {"p/005", "p/077"}
    store.publish("gone", precision="none", tombstones=[Tombstone("p/077", 9)])
    assert ranker.search(features[77], 1)[0].entry.path == "p/005"


@pytest.mark.parametrize("left", [3, 40])
def test_where_most_of_the_nearest_are_gone_it_looks_further(
    store: FeatureStore, basis: Basis, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_stage, "MOST_CANDIDATES", 2000)
    near, far = made_features(1), made_features(left, seed=5)
    put(store, "near", [f"p/near/{row:04}" for row in range(1500)], np.repeat(near, 1500, axis=0))
    put(store, "far", [f"p/far/{row}" for row in range(left)], far)
    ranker = TwoStageRanker(store, candidates=index_of(store, basis), two_stages_from=1)
    store.publish("gone", precision="none", tombstones=[Tombstone(f"p/near/{row:04}", 9) for row in range(1500)])
    assert answers(ranker, near, 10) == answers(ExactRanker(store), near, 10)
    assert len(ranker.search(near[0], 10)) == min(10, left)


def test_a_segment_that_rots_costs_its_own_images_only(store: FeatureStore, basis: Basis, queries: Vector) -> None:
    vectors = made_features(3000)
    for number, name in enumerate(("a", "b", "c")):
        rows = slice(1000 * number, 1000 * (number + 1))
        put(store, name, [f"p/{name}/{row}.jpg" for row in range(1000)], vectors[rows])
    ranker = TwoStageRanker(store, candidates=index_of(store, basis), two_stages_from=1)
    path = segment_file(store, "b")
    status = path.stat()
    with path.open("rb+") as file:
        file.write(b"rotten" * 20)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    store._open.clear()  # as in a process that has just been started
    found = answers(ranker, queries, 10)
    assert found == answers(ExactRanker(store), queries, 10)
    assert list(store.damaged) == ["b"]
    assert len(store) == 2000


def test_a_compaction_changes_no_answer(store: FeatureStore, basis: Basis, queries: Vector) -> None:
    for number in range(6):
        put(store, f"s{number}", [f"p/{number}/{row}" for row in range(200)], made_features(200, seed=number))
    index = index_of(store, basis)
    ranker = TwoStageRanker(store, candidates=index, two_stages_from=1)
    expected = answers(ranker, queries, 10)
    compact(open_store(store.path.parents[1], cache="another-host"))
    assert answers(ranker, queries, 10) == expected
    for name in index.names():
        index.remove(name)
    for row in store.catalog.segments():
        index.add(store.segment(row.name))
    ranker.use(index)
    assert recall(answers(ranker, queries, 10), expected) == 1


def test_a_segment_replaced_by_a_smaller_one_is_no_harm(store: FeatureStore, basis: Basis, queries: Vector) -> None:
    put(store, "s", [f"p/{row}" for row in range(400)], made_features(400))
    ranker = TwoStageRanker(store, candidates=index_of(store, basis), two_stages_from=1)
    segment_file(store, "s").unlink()
    put(store, "s", [f"p/{row}" for row in range(50)], made_features(50))
    # What the index says of the old file is stale until its keeper notices; then the scores are still right.
    expected = dict(answers(ExactRanker(store), queries[:1], 50)[0])
    for path, score in answers(ranker, queries[:1], 50)[0]:
        assert score == expected[path]
    index = index_of(store, basis)
    assert index.count() == 50


def test_searches_stay_right_while_segments_come_and_go(store: FeatureStore, basis: Basis, queries: Vector) -> None:
    put(store, "stays", [f"p/{row}" for row in range(600)], made_features(600))
    index = index_of(store, basis)
    ranker = TwoStageRanker(store, candidates=index, two_stages_from=1)
    expected = answers(ExactRanker(store), queries[:4], 20, folder="p")
    stop = threading.Event()
    wrong: list[object] = []

    def search(number: int) -> None:
        try:
            while not stop.is_set():
                found = answers(ranker, queries[[number]], 20, folder="p")[0]
                if found != expected[number] or len(ranker.search(queries[number], 20)) < 20:
                    wrong.append(found)
        except Exception as error:  # noqa: BLE001 - handed to the test
            wrong.append(error)

    threads = [threading.Thread(target=search, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for number in range(12):
        put(store, f"job{number}", [f"z/{number}/{row}" for row in range(9)], made_features(9, seed=number))
        if number % 2:
            index.add(store.segment(f"job{number}"))
            ranker.use(index)
        if number % 4 == 3:
            compact(store)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- what is saved -------------------------------------------------------------------------------------------


def test_after_a_restart_nothing_is_encoded_again(
    store: FeatureStore, basis: Basis, queries: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "s", [f"p/ü{row}/x" for row in range(300)], made_features(300))
    expected = answers(TwoStageRanker(store, candidates=index_of(store, basis), two_stages_from=1), queries, 10)
    monkeypatch.setattr(codes, "_encode", lambda *_: pytest.fail("encoded again"))
    again = index_of(store, basis)
    assert answers(TwoStageRanker(store, candidates=again, two_stages_from=1), queries, 10) == expected
    assert again.search(queries[0], 5, folder="p/ü7")["s"].tolist() == [7]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_file_of_codes_is_reported_and_made_anew(
    store: FeatureStore, basis: Basis, queries: Vector, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, "s", [f"p/{row}" for row in range(300)], made_features(300))
    expected = index_of(store, basis).search(queries[0], 10)
    path = store.cache_path / "candidates" / basis.id / "s.codes"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"cut": bytes(data[:-9]), "flipped": bytes(data), "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        found = index_of(store, basis).search(queries[0], 10)
    assert found["s"].tolist() == expected["s"].tolist()
    assert "s.codes" in caplog.text
    if damage != "folder":
        caplog.clear()
        index_of(store, basis)
        assert caplog.text == ""


def test_files_that_nobody_knows_are_deleted_after_a_while(
    store: FeatureStore, basis: Basis, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "s", ["p/1"], made_features(1))
    folder = store.cache_path / "candidates" / basis.id
    index = index_of(store, basis)
    stranger = folder / "other.codes"
    stranger.write_bytes(b"of another process")
    index.snapshot()
    assert stranger.exists()
    monkeypatch.setattr("common.ranking.candidates._STALE_SECONDS", -1)
    index.snapshot()
    assert sorted(path.name for path in folder.glob("*.codes")) == ["s.codes"]
    index.remove("s")
    assert not list(folder.glob("*.codes"))


def test_an_index_of_nothing_finds_nothing(basis: Basis, tmp_path: Path) -> None:
    assert FaissCandidates(basis, tmp_path / "none").search(basis.mean, 10, folder="p") == {}


# --- an index that others share ------------------------------------------------------------------------------


def test_a_segment_that_another_host_has_indexed_meanwhile_is_found_once(
    store: FeatureStore, basis: Basis, queries: Vector
) -> None:
    features = made_features(600)
    paths = [f"p/{row}" for row in range(600)]
    put(store, "first", paths[:300], features[:300])
    index = index_of(store, basis)
    ranker = TwoStageRanker(store, candidates=index, two_stages_from=1)
    put(store, "second", paths[300:], features[300:])
    index.add(store.segment("second"))  # without `use`: this ranker has not been told
    assert answers(ranker, queries, 20) == answers(ExactRanker(store), queries, 20)


class AwayCandidates(FaissCandidates):
    """An index behind a network that is down."""

    def search(self, query: Vector, k: int, *, folder: str | None = None) -> dict[str, Rows]:
        raise VectorBackendUnavailable("http://milvus:19530", "connection refused")


def test_without_its_index_a_small_collection_is_ranked_exactly_and_a_large_one_says_so(
    large: FeatureStore, basis: Basis, queries: Vector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = TwoStageRanker(large, candidates=AwayCandidates(basis, tmp_path), two_stages_from=1)
    assert answers(ranker, queries[:5], 10) == answers(ExactRanker(large), queries[:5], 10)
    monkeypatch.setattr(two_stage, "_EXACT_AT_MOST", COUNT - 1)
    with pytest.raises(VectorBackendUnavailable, match="connection refused"):
        ranker.search(queries[0], 10)
