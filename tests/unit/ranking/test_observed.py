from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from common.ranking import ExactRanker
from common.ranking.observed import RecallObserver, hits_among
from common.ranking.protocol import Match
from common.ranking.two_stage import TwoStageRanker
from common.recall import RecallBoard, RecallTotals
from common.store import FeatureStore
from tests.unit.ranking.building import index_of, made_features, open_store, put


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = open_store(tmp_path)
    put(store, "s", [f"p/{row:03}" for row in range(400)], made_features(400))
    return store


@pytest.fixture
def board(redis_url: str) -> RecallBoard:
    return RecallBoard(redis.Redis.from_url(redis_url))


@pytest.fixture
def observer(store: FeatureStore, board: RecallBoard) -> RecallObserver:
    return RecallObserver(store, board, one_in=1, pause_seconds=0)


def counted(board: RecallBoard) -> RecallTotals:
    deadline = time.monotonic() + 20
    while not board.read().possible:
        assert time.monotonic() < deadline, "nothing was counted"
        time.sleep(0.01)
    return board.read()


def test_before_the_first_sample_nothing_is_known(board: RecallBoard) -> None:
    assert board.read() == RecallTotals(0, 0)
    assert board.read().recall is None


def test_samples_add_up(board: RecallBoard) -> None:
    board.add(9, 10)
    board.add(10, 10)
    assert board.read() == RecallTotals(19, 20)
    assert board.read().recall == 0.95


def test_equally_good_results_count(store: FeatureStore) -> None:
    query = made_features(1)[0]
    truth = ExactRanker(store).search(query, 12)
    assert hits_among(truth, truth) == 10
    assert hits_among(truth[5:], truth) == 5
    twin = Match(truth[11].entry, truth[9].score, truth[9].distance)
    assert hits_among([*truth[:9], twin], truth) == 10
    assert hits_among([], truth) == 0
    assert hits_among(truth, []) == 0
    assert hits_among(truth[:3], truth[:3]) == 3


def test_what_was_missed_is_counted(store: FeatureStore, board: RecallBoard, observer: RecallObserver) -> None:
    query = made_features(1)[0]
    found = ExactRanker(store).search(query, 20)
    store.refresh()
    observer(query, 20, None, None, [*found[:4], *found[10:]])
    assert counted(board) == RecallTotals(4, 10)
    observer.stop()


def test_searches_in_two_stages_are_observed_with_their_filters(
    store: FeatureStore, board: RecallBoard, observer: RecallObserver
) -> None:
    from common.ranking.basis import Basis

    index = index_of(store, Basis.train(made_features(400), images=400))
    ranker = TwoStageRanker(store, candidates=index, two_stages_from=1, observer=observer)
    query = made_features(1)[0]
    assert len(ranker.search(query, 3, folder="p", min_score=0.1)) == 3
    assert counted(board) == RecallTotals(3, 3)
    observer.stop()


def test_only_some_searches_are_looked_at(store: FeatureStore, board: RecallBoard) -> None:
    observer = RecallObserver(store, board, one_in=5, pause_seconds=1000)
    query = made_features(1)[0]
    found = ExactRanker(store).search(query, 10)
    for _ in range(4):
        observer(query, 10, None, None, found)
    observer.stop()
    assert board.read().possible == 0
    observer(query, 10, None, None, found)
    counted(board)
    for _ in range(20):
        observer(query, 10, None, None, found)
    observer.stop()
    assert board.read() == RecallTotals(10, 10)


def test_a_sample_of_a_store_that_has_changed_since_is_dropped(
    store: FeatureStore, board: RecallBoard, observer: RecallObserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = made_features(1)[0]
    found = ExactRanker(store).search(query, 10)
    search = ExactRanker.search

    def late(*args: object, **filters: object) -> list[Match]:
        put(store, "more", ["p/more"], made_features(1))
        return search(*args, **filters)  # type: ignore[arg-type]

    monkeypatch.setattr(ExactRanker, "search", late)
    observer(query, 10, None, None, found)
    observer.stop()
    assert board.read().possible == 0


def test_a_failure_does_not_end_the_observation(
    store: FeatureStore,
    board: RecallBoard,
    observer: RecallObserver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    query = made_features(1)[0]
    found = ExactRanker(store).search(query, 10)
    add = RecallBoard.add
    failures = [redis.ConnectionError("away")]

    def failing(self: RecallBoard, hits: int, possible: int) -> None:
        if failures:
            raise failures.pop()
        add(self, hits, possible)

    monkeypatch.setattr(RecallBoard, "add", failing)
    observer(query, 10, None, None, found)
    deadline = time.monotonic() + 20
    while failures:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while not board.read().possible:
        assert time.monotonic() < deadline
        observer(query, 10, None, None, found)
        time.sleep(0.01)
    observer.stop()
    assert "sample of the recall" in caplog.text
