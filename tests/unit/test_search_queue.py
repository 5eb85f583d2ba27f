"""How many searches may wait, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from benchmarks.system import wait_until
from common import search_interest, search_reading, stage_metrics
from common.celery_app import QUERY
from common.errors import RedisFull, TooManySearches
from common.messages import SearchQuery, SearchRecord
from common.redis_client import key
from common.search_queue import MOST_LEFT_BEHIND, QueueLimits, retry_after
from common.searches import SearchBoard


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def board_for(client: redis.Redis, searches: int = 3, upload_bytes: int = 1000, timeout: int = 60) -> SearchBoard:
    limits = QueueLimits(searches, upload_bytes)
    return SearchBoard(client, ttl_seconds=3600, timeout_seconds=timeout, limits=limits)


def submit(board: SearchBoard, upload: bytes = b"picture") -> SearchRecord:
    return board.create(SearchQuery(), [upload])


def answer(board: SearchBoard, record: SearchRecord) -> None:
    taken = board.take(record.result.id)
    assert taken is not None
    board.finish(record, record.result.model_copy(update={"state": "done"}))


def test_no_more_than_the_limit_wait(client: redis.Redis) -> None:
    board = board_for(client, searches=3)
    records = [submit(board) for _ in range(3)]
    with pytest.raises(TooManySearches, match="3 searches wait already") as refused:
        submit(board)
    assert refused.value.retry_after == 5
    assert board.take(records[0].result.id)
    submit(board)
    with pytest.raises(TooManySearches):
        board.queue.admit("")
    assert stage_metrics.read(client).ended["refused"] == 2


def test_of_many_that_come_at_once_no_more_than_the_limit_get_in(client: redis.Redis) -> None:
    board = board_for(client, searches=20)

    def attempt(_: int) -> bool:
        try:
            return bool(submit(board))
        except TooManySearches:
            return False

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(60))) == 20


def test_a_refused_search_leaves_nothing_behind(client: redis.Redis) -> None:
    board = board_for(client, searches=1)
    submit(board)
    before = set(client.scan_iter()) | {stage_metrics.KEY.encode()}
    with pytest.raises(TooManySearches):
        submit(board)
    assert set(client.scan_iter()) == before


def test_uploads_have_room_until_their_searches_have_ended(client: redis.Redis) -> None:
    board = board_for(client, upload_bytes=1000)
    first = submit(board, bytes(700))
    assert board.take(first.result.id)
    with pytest.raises(TooManySearches, match="IMAGESEARCH_MAX_QUEUED_BYTES"):
        submit(board, bytes(301))
    submit(board, bytes(300))
    board.finish(first, first.result)
    submit(board, bytes(700))


def test_a_single_upload_may_be_larger_than_the_room(client: redis.Redis) -> None:
    board = board_for(client, upload_bytes=1000)
    first = submit(board, bytes(5000))
    with pytest.raises(TooManySearches, match="IMAGESEARCH_MAX_QUEUED_BYTES"):
        submit(board)
    board.create(SearchQuery(image_id="ab" * 16))  # which has none
    answer(board, first)
    submit(board, bytes(5000))


def test_what_was_given_up_takes_no_place(client: redis.Redis) -> None:
    board = board_for(client, searches=1, upload_bytes=10, timeout=1)
    submit(board)
    with pytest.raises(TooManySearches):
        submit(board)
    deadline = time.monotonic() + 30
    while True:
        try:
            submit(board)
            break
        except TooManySearches:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_what_nobody_wants_takes_no_place_from_others(client: redis.Redis) -> None:
    board = board_for(client, searches=1)
    unwanted = submit(board)
    client.delete(key("search", unwanted.result.id, "wanted"))
    submit(board)
    with pytest.raises(TooManySearches):
        submit(board)


def test_a_search_that_would_be_given_up_is_refused_at_once(client: redis.Redis) -> None:
    board = board_for(client, searches=1000, upload_bytes=10**9, timeout=60)
    for _ in range(100):
        submit(board)
    # Searches have waited for twenty seconds, and twenty were answered meanwhile.
    client.hset(key("searches", "pace"), mapping={"since": time.time() - 20, "before": 0, "ended": 20})
    with pytest.raises(TooManySearches, match=r"about \d(\.\d+)? are answered in a second") as refused:
        submit(board)
    assert 20 <= refused.value.retry_after <= 30


def test_the_pace_is_not_that_of_times_without_work(client: redis.Redis) -> None:
    board = board_for(client, searches=1000, upload_bytes=10**9)
    answer(board, submit(board))
    client.hset(key("searches", "pace"), "since", time.time() - 1000)  # a quiet quarter of an hour
    for _ in range(50):
        submit(board)
    assert client.hget(key("searches", "pace"), "rate") is None


def test_a_queue_that_no_worker_empties_has_an_end(client: redis.Redis) -> None:
    board = board_for(client, searches=3)
    client.lpush(QUERY, *["left behind"] * (3 + MOST_LEFT_BEHIND))
    with pytest.raises(TooManySearches, match="No query worker takes searches"):
        submit(board)


def test_pictures_do_not_take_the_last_memory_of_redis(client: redis.Redis) -> None:
    board = board_for(client, upload_bytes=10**9)
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", used + 4 * 2**20)
    try:
        with pytest.raises(RedisFull, match="maxmemory"):
            submit(board, bytes(4 * 2**20))
        submit(board)
    finally:
        client.config_set("maxmemory", 0)
    submit(board, bytes(4 * 2**20))


@pytest.mark.parametrize(("waiting", "rate", "seconds"), [(200, 0, 5), (200, 10, 5), (200, 400, 1), (200, 0.1, 60)])
def test_retry_after_is_when_a_quarter_is_answered(waiting: int, rate: float, seconds: int) -> None:
    assert retry_after(waiting, rate) == seconds


# --- who waits ------------------------------------------------------------------------------------------------


def test_what_nobody_waits_for_is_not_computed(client: redis.Redis) -> None:
    board = board_for(client)
    record = submit(board)
    assert 20 < client.ttl(key("search", record.result.id, "wanted")) <= search_interest.WANTED_SECONDS
    client.delete(key("search", record.result.id, "wanted"))
    assert board.take(record.result.id) is None
    result = board.result(record.result.id)
    assert result.state == "failed"
    assert "Nobody waited" in (result.error or "")
    assert stage_metrics.read(client).ended == {"done": 0, "failed": 0, "abandoned": 1, "refused": 0}
    assert client.exists(key("upload", record.result.id)) == 0


def test_whoever_asks_before_its_turn_has_it_computed(client: redis.Redis) -> None:
    board = board_for(client)
    record = submit(board)
    client.delete(key("search", record.result.id, "wanted"))
    assert board.result(record.result.id).state == "queued"
    assert board.take(record.result.id)


def test_one_who_waits_keeps_what_another_one_left(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_reading, "_LOOK_SECONDS", 0.05)
    board = board_for(client)
    record = submit(board)
    stays = threading.Event()
    waiting = threading.Thread(
        target=board.result, args=(record.result.id, 30), kwargs={"is_there": lambda: not stays.is_set()}
    )
    waiting.start()
    board.withdraw(record.result.id)
    wanted = key("search", record.result.id, "wanted")
    wait_until(lambda: client.ttl(wanted) > search_interest.LEAVING_SECONDS, "the interest is renewed", 30)
    stays.set()
    waiting.join(20)  # before the 30 s of its wait
    assert not waiting.is_alive()
    assert 0 < client.pttl(wanted) <= search_interest.LEAVING_SECONDS * 1000
