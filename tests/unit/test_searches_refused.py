"""Searches while Redis takes nothing: what can be read is read, and nobody waits for what has no room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import redis

from common import searches
from common.errors import UnknownSearch
from common.messages import SearchQuery
from common.searches import SearchBoard
from tests.redis_troubles import full, replica, unable_to_save

Trouble = Callable[[redis.Redis], AbstractContextManager[None]]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def board(client: redis.Redis) -> SearchBoard:
    return SearchBoard(client, ttl_seconds=3600, timeout_seconds=60)


@pytest.mark.parametrize("trouble", [full, replica, unable_to_save])
def test_what_is_only_read_is_answered(board: SearchBoard, client: redis.Redis, trouble: Trouble) -> None:
    ended, waiting = (board.create(SearchQuery(), [b"picture"]) for _ in range(2))
    board.finish(ended, ended.result.model_copy(update={"state": "done"}))
    with trouble(client):
        assert board.result(ended.result.id).state == "done"
        assert board.result(waiting.result.id, 0.05).state == "queued"
        board.withdraw(waiting.result.id)
        with pytest.raises(UnknownSearch):
            board.withdraw("0" * 24)
    assert board.take(waiting.result.id)


def test_an_answer_without_room_is_told_as_lost(
    board: SearchBoard, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches, "_FINISH_PAUSES", (0.01,))
    record = board.create(SearchQuery(), [b"picture"])
    with full(client):
        board.finish(record, record.result.model_copy(update={"state": "done"}))
        told = board.result(record.result.id, 20)
        assert (told.state, told.error_status) == ("failed", 503)
        assert "no memory left for its answer" in (told.error or "")
    assert board.take(record.result.id) is None
    assert board.result(record.result.id).state == "failed"


def test_an_answer_that_has_room_again_is_kept(
    board: SearchBoard, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = board.create(SearchQuery(), [b"picture"])
    trouble = full(client)
    trouble.__enter__()
    monkeypatch.setattr(searches.time, "sleep", lambda _: trouble.__exit__(None, None, None))
    board.finish(record, record.result.model_copy(update={"state": "done"}))
    assert board.result(record.result.id).state == "done"
