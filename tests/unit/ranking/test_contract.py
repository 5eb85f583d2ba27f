"""What every `CandidateIndex` promises, tried on each of them; `ExactCandidates` is the truth."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common.ranking.basis import Basis
from common.ranking.protocol import CandidateIndex, Rows
from common.store import FeatureStore, Segment, Tombstone
from tests.unit.helpers import SPEC, Vector, make_store, record, unit_vectors
from tests.unit.ranking.backends import Backend, ExactBackend, ExactCandidates, FaissBackend, MilvusBackend

DIMENSION = 64
CLUSTERS, MEMBERS = 25, 16
ODD_FOLDERS = ["a'b", 'a"b', "100%", "a_b", "Ünïcödé 図", "with space", "back\\slash", "{x}", "a" * 200]


@pytest.fixture(scope="module")
def features() -> Vector:
    """Well-separated clusters of features, one after another."""
    centres = np.repeat(unit_vectors(CLUSTERS, 1, DIMENSION), MEMBERS, axis=0)
    near = centres + 0.3 * unit_vectors(len(centres), 2, DIMENSION)
    return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def basis(features: Vector) -> Basis:
    return Basis.train(features, images=len(features))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path, SPEC.model_copy(update={"dimension": DIMENSION}))


@pytest.fixture(scope="module")
def empty_milvus(tmp_path_factory: pytest.TempPathFactory, basis: Basis) -> Path:
    """A Milvus Lite file with empty collections: to make them takes a second."""
    pytest.importorskip("pymilvus", reason="the extra `milvus` is not installed")
    made = MilvusBackend(tmp_path_factory.mktemp("milvus"), basis)
    made.open()
    made.stop()
    return made.folder / "milvus.db"


@pytest.fixture(params=[ExactBackend, FaissBackend, MilvusBackend], ids=["exact", "faiss", "milvus"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, basis: Basis) -> Iterator[Backend]:
    made: Backend = request.param(tmp_path, basis)
    if isinstance(made, MilvusBackend):
        shutil.copytree(request.getfixturevalue("empty_milvus"), tmp_path / "milvus.db")
    yield made
    made.stop()


@pytest.fixture
def index(backend: Backend) -> CandidateIndex:
    return backend.open()


def put(store: FeatureStore, name: str, paths: list[str], features: Vector) -> Segment:
    """Publishes a segment and opens it."""
    store.publish(
        name,
        precision="float32",
        records=[record(path) for path in paths],
        features=features,
        thumbnails=[b""] * len(paths),
    )
    return store.segment(name)


def put_all(store: FeatureStore, features: Vector) -> list[Segment]:
    """The features in four segments, mixed, each in one of five folders."""
    segments = []
    for number in range(4):
        rows = range(number, len(features), 4)
        paths = [f"photos/f{row % 5}/{row:04}.jpg" for row in rows]
        segments.append(put(store, f"s{number}", paths, features[rows]))
    return segments


def places(found: dict[str, Rows]) -> set[tuple[str, int]]:
    """What was found as (segment, row); no row may be told twice."""
    rows = [(name, int(row)) for name, part in found.items() for row in part]
    assert len(rows) == len(set(rows))
    return set(rows)


def everything(*segments: Segment) -> set[tuple[str, int]]:
    return {(segment.name, row) for segment in segments for row in range(segment.count)}


# --- taking in and forgetting --------------------------------------------------------------------------------


def test_an_empty_index_finds_nothing(index: CandidateIndex, features: Vector) -> None:
    assert index.names() == set()
    assert index.count() == 0
    assert places(index.search(features[0], 10)) == set()
    assert places(index.search(features[0], 10, folder="photos")) == set()
    index.remove("never-added")
    index.snapshot()
    assert index.count() == 0


def test_it_knows_what_it_took_in(index: CandidateIndex, store: FeatureStore, features: Vector) -> None:
    one, two, *_ = put_all(store, features)
    index.add(one)
    assert index.names() == {"s0"}
    assert index.count() == one.count
    index.add(two)
    assert index.names() == {"s0", "s1"}
    assert index.count() == one.count + two.count


def test_adding_twice_adds_nothing(index: CandidateIndex, store: FeatureStore, features: Vector) -> None:
    segment = put_all(store, features)[0]
    for _ in range(3):
        index.add(segment)
        assert index.names() == {segment.name}
        assert index.count() == segment.count
    assert places(index.search(features[0], 10_000)) == everything(segment)


def test_another_segment_of_the_same_name_is_known_by_its_own_rows(
    backend: Backend, store: FeatureStore, tmp_path: Path, features: Vector
) -> None:
    index = backend.open()
    index.add(put(store, "s", [f"p/{row}" for row in range(30)], features[:30]))
    index.snapshot()
    backend.stop()
    restored = make_store(tmp_path / "restored", store.spec)
    other = put(restored, "s", [f"q/{row}" for row in range(10)], features[40:50])
    index = backend.open()
    index.add(other)
    assert index.count() == 10
    assert places(index.search(features[0], 100)) == everything(other)
    assert places(index.search(features[0], 100, folder="p")) == set()


def test_a_segment_of_tombstones_is_known_and_holds_nothing(
    index: CandidateIndex, store: FeatureStore, features: Vector
) -> None:
    store.publish("gone", precision="none", tombstones=[Tombstone("photos/a.jpg", 5)])
    index.add(store.segment("gone"))
    assert index.names() == {"gone"}
    assert index.count() == 0
    assert places(index.search(features[0], 10)) == set()


def test_what_was_removed_is_not_found(index: CandidateIndex, store: FeatureStore, features: Vector) -> None:
    segments = put_all(store, features)
    for segment in segments:
        index.add(segment)
    for name in ("s1", "s3", "s1", "never-added"):
        index.remove(name)
    assert index.names() == {"s0", "s2"}
    assert index.count() == segments[0].count + segments[2].count
    assert places(index.search(features[1], 10_000)) == everything(segments[0], segments[2])
    index.add(segments[1])
    assert index.names() == {"s0", "s1", "s2"}
    assert places(index.search(features[1], 10_000)) == everything(*segments[:3])


def test_a_folder_does_not_tell_paths_of_two_segments_apart(
    index: CandidateIndex, store: FeatureStore, features: Vector
) -> None:
    paths = [f"photos/{number}.jpg" for number in range(10)]
    old, new = put(store, "old", paths, features[:10]), put(store, "new", paths, features[20:30])
    index.add(old)
    index.add(new)
    assert index.count() == 20
    assert places(index.search(features[0], 100, folder="photos")) == everything(old, new)
    index.remove("old")
    assert places(index.search(features[0], 100, folder="photos")) == everything(new)


# --- searching -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [False, True], ids=["fresh", "saved"])
@pytest.mark.parametrize("folder", [None, "photos", "photos/f3"])
def test_the_nearest_are_among_the_candidates(
    index: CandidateIndex, store: FeatureStore, features: Vector, folder: str | None, saved: bool
) -> None:
    truth = ExactCandidates()
    for segment in put_all(store, features):
        index.add(segment)
        truth.add(segment)
    if saved:
        index.snapshot()
    found = wanted = 0
    nearest = MEMBERS if folder != "photos/f3" else MEMBERS // 5
    for query in features[::MEMBERS]:
        best = places(truth.search(query, nearest, folder=folder))
        found += len(best & places(index.search(query, 2 * MEMBERS, folder=folder)))
        wanted += len(best)
    assert wanted == CLUSTERS * nearest
    assert found >= 0.95 * wanted


def test_about_k_are_found_and_all_if_there_are_fewer(
    index: CandidateIndex, store: FeatureStore, features: Vector
) -> None:
    segments = put_all(store, features)
    for segment in segments:
        index.add(segment)
    assert 1 <= len(places(index.search(features[0], 1))) <= MEMBERS
    assert 50 <= len(places(index.search(features[0], 50))) <= 100
    assert places(index.search(features[0], len(features))) == everything(*segments)
    assert places(index.search(features[0], 100_000)) == everything(*segments)


def test_a_folder_holds_what_is_below_it_at_any_depth(
    index: CandidateIndex, store: FeatureStore, features: Vector
) -> None:
    below = ["photos/a/1.jpg", "photos/a/b/2.jpg", "photos/a/b/c/d/e/3.jpg"]
    beside = ["photos/ab/4.jpg", "photos/a.jpg", "photos/a", "photos/A/5.jpg", "other/a/6.jpg", "photos/b/a/7.jpg"]
    index.add(put(store, "s", [*beside, *below], features[: len(below) + len(beside)]))
    assert places(index.search(features[0], 100, folder="photos/a")) == {("s", len(beside) + row) for row in range(3)}
    assert places(index.search(features[0], 100, folder="photos/a/b/c")) == {("s", len(beside) + 2)}
    assert places(index.search(features[0], 100, folder="other")) == {("s", 4)}
    for nothing in ("photos/c", "photo", "photos/a/1.jpg/x", "nowhere"):
        assert places(index.search(features[0], 100, folder=nothing)) == set()


def test_names_of_folders_mean_nothing_but_themselves(
    index: CandidateIndex, store: FeatureStore, features: Vector
) -> None:
    decoys = ["a-b", "axb", "1000", "ab", "%", "_"]
    folders = [*ODD_FOLDERS, *decoys]
    index.add(put(store, "s", [f"photos/{name}/sub/1.jpg" for name in folders], features[: len(folders)]))
    for number, name in enumerate(folders):
        for folder in (f"photos/{name}", f"photos/{name}/sub"):
            assert places(index.search(features[0], 100, folder=folder)) == {("s", number)}, folder
    assert len(places(index.search(features[0], 100, folder="photos"))) == len(folders)


def test_names_of_segments_mean_nothing_but_themselves(
    index: CandidateIndex, store: FeatureStore, features: Vector
) -> None:
    names = ['q"uote', "q'uote", "per%cent", "per_cent", "per-cent", "co:lon:1", "Ünï", "s p a c e", "n" * 200]
    segments = [put(store, name, [f"p/{name}.jpg"], features[[number]]) for number, name in enumerate(names)]
    for segment in segments:
        index.add(segment)
    assert index.names() == set(names)
    assert places(index.search(features[0], 100)) == everything(*segments)
    for number, name in enumerate(names):
        index.remove(name)
        assert places(index.search(features[0], 100)) == everything(*segments[number + 1 :])


# --- keeping, and many threads -------------------------------------------------------------------------------


def test_what_was_saved_is_there_after_a_restart(backend: Backend, store: FeatureStore, features: Vector) -> None:
    segments = put_all(store, features)
    index = backend.open()
    for segment in segments:
        index.add(segment)
    index.remove("s0")
    index.snapshot()
    expected = index.search(features[1], 40, folder="photos")
    backend.stop()

    again = backend.open()
    for segment in segments[1:]:
        again.add(segment)
    assert again.names() == {"s1", "s2", "s3"}
    assert again.count() == sum(segment.count for segment in segments[1:])
    assert places(again.search(features[1], 10_000)) == everything(*segments[1:])
    assert places(again.search(features[1], 40, folder="photos")) == places(expected)


def test_searches_stay_right_while_another_thread_changes_the_index(
    index: CandidateIndex, store: FeatureStore, features: Vector
) -> None:
    stays, *rest = put_all(store, features)
    index.add(stays)
    possible = everything(stays, *rest)
    stop = threading.Event()
    problems: list[object] = []
    searches = 0

    def search() -> None:
        nonlocal searches
        try:
            while not stop.is_set() or not searches:
                found = places(index.search(features[0], 10_000))
                if not everything(stays) <= found <= possible:
                    problems.append(found)
                searches += 1
        except Exception as error:  # noqa: BLE001 - handed to the test
            problems.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    for _ in range(3):
        for segment in rest:
            index.add(segment)
        for segment in rest:
            index.remove(segment.name)
    index.snapshot()
    stop.set()
    thread.join()
    assert problems == []
    assert searches > 0
    assert places(index.search(features[0], 10_000)) == everything(stays)
