"""The index is kept in step with a store that changes, by several processes, across restarts and new bases."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.ranking import ExactRanker, codes
from common.ranking.bases import BasisFolder, train_if_outgrown
from common.ranking.basis import Basis
from common.ranking.candidates import FaissCandidates
from common.ranking.keeping import IndexKeeper
from common.ranking.opening import open_ranker
from common.ranking.two_stage import TwoStageRanker
from common.settings import Settings
from common.store import compact
from tests.unit.helpers import Vector, python_json, segment_file
from tests.unit.ranking.building import answers, made_features, open_store, put

SWITCH = 300
SECOND_PROCESS = """
import json, sys
from pathlib import Path
from common.ranking import codes
from common.ranking.bases import BasisFolder
from tests.unit.ranking.building import index_of, made_features, open_store

made = []
encode = codes._encode
codes._encode = lambda *arguments: made.append(1) or encode(*arguments)
store = open_store(Path(sys.argv[1]))
store.refresh()
index = index_of(store, BasisFolder(store.path).newest())
found = index.search(made_features(15, seed=99)[0], 20)
print(json.dumps([len(made), {name: rows.tolist() for name, rows in found.items()}]))
"""


class World:
    """A store, its ranker, and a keeper that is told to take its steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = open_store(folder)
        self.ranker = TwoStageRanker(self.store, two_stages_from=SWITCH)
        self.requests = 0
        self.made: list[FaissCandidates] = []
        self.retired: list[str] = []
        self.keeper = IndexKeeper(self.ranker, self, request_training=self._request, two_stages_from=SWITCH)

    def saved(self, basis_id: str) -> int:
        return len(list((self.store.cache_path / "candidates" / basis_id).glob("*.codes")))

    def retire(self, basis: Basis) -> None:
        self.retired.append(basis.id)

    def open(self, basis: Basis) -> FaissCandidates:
        index = FaissCandidates(basis, self.store.cache_path / "candidates" / basis.id)
        self.made.append(index)
        return index

    def _request(self) -> None:
        self.requests += 1

    def fill(self, name: str, count: int, seed: int = 0, folder: str = "p") -> None:
        put(self.store, name, [f"{folder}/{name}/{row}" for row in range(count)], made_features(count, seed))

    def train(self) -> Basis:
        basis = train_if_outgrown(self.store, two_stages_from=SWITCH)
        assert basis is not None
        return basis

    @property
    def known(self) -> set[str]:
        return self.made[-1].names() if self.made else set()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The segments that were encoded, and not read."""
    names: list[str] = []
    encode = codes._encode
    monkeypatch.setattr(codes, "_encode", lambda segment, basis: names.append(segment.name) or encode(segment, basis))
    return names


@pytest.fixture
def queries() -> Vector:
    return made_features(15, seed=99)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_small_collection_needs_nothing(world: World) -> None:
    world.fill("a", SWITCH - 1)
    world.keeper.step()
    assert world.requests == 0
    assert world.made == []


def test_a_large_one_is_trained_for_and_then_searched_in_two_stages(world: World, queries: Vector) -> None:
    world.fill("a", SWITCH)
    for _ in range(3):
        world.keeper.step()
    assert world.requests == 1  # not with each look
    world.train()
    world.keeper.step()
    assert world.known == {"a"}
    assert answers(world.ranker, queries, 5) == answers(ExactRanker(world.store), queries, 5)


def test_it_follows_new_removed_and_merged_segments(world: World, queries: Vector, encoded: list[str]) -> None:
    world.fill("a", SWITCH)
    world.train()
    for number in range(4):
        world.fill(f"n{number}", 50, seed=number + 1)
        world.keeper.step()
        assert world.known == {"a", *(f"n{n}" for n in range(number + 1))}
    assert encoded == ["n0", "a", "n1", "n2", "n3"]  # the smallest first
    expected = answers(world.ranker, queries, 10)
    segment_file(world.store, "n3").unlink()
    compact(world.store, 400)
    world.keeper.step()
    assert world.known == {row.name for row in world.store.catalog.segments()}
    assert len(world.known) < 4
    assert answers(world.ranker, queries, 10) == answers(ExactRanker(world.store), queries, 10) != expected
    files = (world.store.cache_path / "candidates").rglob("*.codes")
    assert {path.stem for path in files} == world.known


def test_a_segment_that_was_replaced_is_encoded_again(world: World, queries: Vector) -> None:
    world.fill("a", SWITCH)
    world.fill("b", 100, seed=5)
    world.train()
    world.keeper.step()
    segment_file(world.store, "b").unlink()
    world.fill("b", 120, seed=6)
    world.keeper.step()
    assert world.made[-1].count() == SWITCH + 120
    assert answers(world.ranker, queries, 10) == answers(ExactRanker(world.store), queries, 10)


def test_the_old_index_serves_until_all_is_encoded_with_the_new_basis(
    world: World, queries: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill("a", SWITCH)
    world.train()
    world.keeper.step()
    world.fill("b", 3 * SWITCH, seed=2)
    world.keeper.step()
    assert world.requests == 1
    new = world.train()
    old = world.made[0]
    during: list[object] = []
    add = FaissCandidates.add

    def watched(index: FaissCandidates, segment: object) -> None:
        if index is not old and not during:
            world.fill("late", 40, seed=3)  # arrives while everything is encoded anew
        during.append(answers(world.ranker, queries[:1], 5, folder="p/a"))
        add(index, segment)  # type: ignore[arg-type]

    monkeypatch.setattr(FaissCandidates, "add", watched)
    expected = answers(ExactRanker(world.store), queries[:1], 5, folder="p/a")
    world.keeper.step()
    assert during == [expected] * len(during)
    assert "late" in old.names()
    assert world.retired == [old.basis.id]
    assert world.made[-1].basis.id == new.id
    assert world.known == {"a", "b", "late"}
    assert answers(world.ranker, queries, 5) == answers(ExactRanker(world.store), queries, 5)


def test_after_a_restart_the_fullest_index_serves_first(world: World, encoded: list[str]) -> None:
    world.fill("a", SWITCH)
    old = world.train()
    world.keeper.step()
    world.fill("b", 3 * SWITCH, seed=2)
    new = world.train()

    again = World(world.folder)
    again.keeper.step()
    assert [index.basis.id for index in again.made] == [old.id]
    again.keeper.step()
    assert [index.basis.id for index in again.made] == [old.id, new.id]
    assert encoded == ["a", "b", "a", "b"]  # with the old basis one after the other, then with the new one


def test_a_damaged_basis_is_replaced(world: World, queries: Vector, caplog: pytest.LogCaptureFixture) -> None:
    world.fill("a", SWITCH)
    basis = world.train()
    (world.store.path / "basis" / f"{basis.id}.basis").write_bytes(b"rot")
    with caplog.at_level(logging.WARNING):
        world.keeper.step()
        world.keeper.step()
    assert basis.id in caplog.text
    assert world.requests == 1
    assert answers(world.ranker, queries, 3) == answers(ExactRanker(world.store), queries, 3)
    world.train()
    world.keeper.step()
    assert world.known == {"a"}


def test_a_damaged_segment_does_not_stop_the_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.fill("a", SWITCH)
    world.fill("b", 50, seed=1)
    world.train()
    segment_file(world.store, "b").write_bytes(b"rot")
    world.store.catalog._db.execute(  # the catalog has not noticed
        "UPDATE segments SET size = 3, mtime_ns = ? WHERE name = 'b'",
        (segment_file(world.store, "b").stat().st_mtime_ns,),
    )
    world.store._open.clear()
    with caplog.at_level(logging.WARNING):
        world.keeper.step()
    assert world.known == {"a"}


def test_processes_of_a_host_share_what_one_has_made(world: World, queries: Vector) -> None:
    world.fill("a", SWITCH)
    world.fill("b", 100, seed=1)
    world.train()
    world.keeper.step()
    made, found = python_json(SECOND_PROCESS, world.folder)
    assert made == 0
    own = world.made[-1].search(queries[0], 20)
    assert found == {name: rows.tolist() for name, rows in own.items()}


# --- as a worker opens it ------------------------------------------------------------------------------------


def test_a_worker_follows_its_store_in_the_background(
    tmp_path: Path, queries: Vector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path)
    put(store, "a", [f"p/{row}" for row in range(SWITCH)], made_features(SWITCH))
    failures = iter([OSError("the disk is full")])

    def train() -> None:
        for failure in failures:
            raise failure
        train_if_outgrown(store, two_stages_from=SWITCH)

    monkeypatch.setattr("common.ranking.keeping._RETRY_SECONDS", 0.05)
    keepers: list[IndexKeeper] = []
    start = IndexKeeper.start
    monkeypatch.setattr(IndexKeeper, "start", lambda self, *args: keepers.append(self) or start(self, *args))
    ranker = open_ranker(Settings(), store, 1, request_training=train, two_stages_from=SWITCH)
    wait_until(lambda: ranker.index_names == {"a"})
    assert "the disk is full" in caplog.text
    put(store, "b", [f"q/{row}" for row in range(50)], made_features(50, seed=4))
    wait_until(lambda: ranker.index_names == {"a", "b"})
    assert answers(ranker, queries, 5) == answers(ExactRanker(store), queries, 5)
    keepers[0].stop()

    orphan = store.cache_path / "candidates" / "0000-of-no-basis"
    orphan.mkdir()
    again = open_ranker(Settings(), open_store(tmp_path), 1, two_stages_from=SWITCH)
    assert again.index_names == {"a", "b"}  # there when it opens
    assert not orphan.exists()
    keepers[1].stop()
    assert len(BasisFolder(store.path).ids()) == 1


def test_a_worker_changes_to_a_new_basis_and_deletes_what_is_left_of_the_old(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, "a", [f"p/{row}" for row in range(SWITCH)], made_features(SWITCH))
    old = train_if_outgrown(store, two_stages_from=SWITCH)
    assert old is not None
    open_ranker(Settings(), store, 1, two_stages_from=SWITCH)
    folder = store.cache_path / "candidates"
    assert [path.name for path in folder.iterdir()] == [old.id]
    put(store, "b", [f"q/{row}" for row in range(3 * SWITCH)], made_features(3 * SWITCH, seed=4))
    new = train_if_outgrown(store, two_stages_from=SWITCH)
    assert new is not None
    wait_until(lambda: [path.name for path in folder.iterdir()] == [new.id])
