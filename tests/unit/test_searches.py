from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import redis

from common.errors import UnknownSearch
from common.messages import SearchHit, SearchQuery, SearchRecord, SearchResult
from common.redis_client import NAMESPACE
from common.searches import SearchBoard

HIT = SearchHit(image_id="ab" * 16, path="photos/ü.jpg", width=4, height=3, rank=1, score=0.5, distance=1.0)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def board(client: redis.Redis) -> SearchBoard:
    return SearchBoard(client, ttl_seconds=3600, timeout_seconds=60)


def done(record: SearchRecord) -> SearchResult:
    changes = {"state": "done", "results": [HIT], "indexed": 7, "took_ms": {"total": 1.5}, "trained": True}
    return record.result.model_copy(update=changes)


def age(client: redis.Redis, record: SearchRecord, seconds: float) -> None:
    """Makes a search look as if it had been submitted earlier."""
    older = record.model_copy(update={"submitted_at": record.submitted_at - seconds})
    client.set(f"{NAMESPACE}:search:{record.result.id}", older.model_dump_json(), ex=100)


def test_a_search_goes_from_queued_over_running_to_done(board: SearchBoard) -> None:
    query = SearchQuery(k=5, folder="photos/2020", min_score=0.25, crop=(0.1, 0.2, 0.9, 1.0))
    record = board.create(query, b"picture")
    assert board.result(record.result.id).state == "queued"
    assert board.record(record.result.id) == record
    assert record.query == query
    assert board.image(record.result.id) == b"picture"
    board.start(record)
    assert board.result(record.result.id).state == "running"
    board.finish(record, done(record))
    assert board.result(record.result.id) == done(record)
    assert board.result(record.result.id, wait_seconds=30).state == "done"


def test_the_picture_is_dropped_with_the_answer(board: SearchBoard) -> None:
    record = board.create(SearchQuery(), b"picture")
    board.finish(record, done(record))
    assert board.image(record.result.id) is None


def test_a_search_for_a_stored_image_has_no_picture(board: SearchBoard) -> None:
    record = board.create(SearchQuery(image_id="ab" * 16), None)
    assert board.image(record.result.id) is None


def test_ids_cannot_be_guessed(board: SearchBoard) -> None:
    ids = {board.create(SearchQuery(), None).result.id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(search_id) == 24 for search_id in ids)


def test_an_unknown_search_is_an_error(board: SearchBoard) -> None:
    for call in (board.result, board.record, lambda search_id: board.result(search_id, 10)):
        with pytest.raises(UnknownSearch, match="submit the image again"):
            call("unknown")


def test_an_expired_search_is_unknown(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), b"picture")
    client.pexpire(f"{NAMESPACE}:search:{record.result.id}", 1)
    while client.exists(f"{NAMESPACE}:search:{record.result.id}"):
        time.sleep(0.005)
    with pytest.raises(UnknownSearch):
        board.result(record.result.id)


def test_everything_in_redis_expires(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), b"picture")
    board.start(record)
    assert {0 < client.ttl(name) <= 3600 for name in client.scan_iter()} == {True}
    board.finish(record, done(record))
    assert {0 < client.ttl(name) <= 3600 for name in client.scan_iter()} == {True}


@pytest.mark.parametrize("waiters", [1, 8])
def test_finish_wakes_everybody_who_waits(board: SearchBoard, client: redis.Redis, waiters: int) -> None:
    record = board.create(SearchQuery(), b"picture")
    answers: list[SearchResult] = []
    threads = [
        threading.Thread(target=lambda: answers.append(board.result(record.result.id, 20))) for _ in range(waiters)
    ]
    for thread in threads:
        thread.start()
    while client.info("clients")["blocked_clients"] < waiters:
        time.sleep(0.005)
    assert answers == []
    board.finish(record, done(record))
    for thread in threads:
        thread.join(10)  # well before the 20 s of the wait
        assert not thread.is_alive()
    assert answers == [done(record)] * waiters


def test_a_wait_that_ends_without_an_answer_gives_the_state(board: SearchBoard) -> None:
    record = board.create(SearchQuery(), b"picture")
    board.start(record)
    assert board.result(record.result.id, 0.05).state == "running"


def test_a_search_that_nobody_answers_reads_as_failed(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), b"picture")
    age(client, record, 61)
    for wait in (0, 10):
        result = board.result(record.result.id, wait)
        assert result.state == "failed"
        assert "No query worker answered within 60 s" in (result.error or "")


def test_a_wait_ends_when_the_search_times_out(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), b"picture")
    age(client, record, 59.9)
    assert board.result(record.result.id, 25).state == "failed"


def test_an_answer_that_comes_late_still_counts(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), b"picture")
    age(client, record, 100)
    board.finish(record, done(record))
    assert board.result(record.result.id) == done(record)
