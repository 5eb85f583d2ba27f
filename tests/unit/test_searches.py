from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from common import stage_metrics
from common.errors import InvalidCursor, UnknownSearch
from common.messages import (
    QueryImage,
    QueryInfo,
    QueryPicture,
    SearchHit,
    SearchPosition,
    SearchQuery,
    SearchRecord,
    SearchResult,
)
from common.redis_client import NAMESPACE
from common.searches import QueryFeature, SearchBoard, TakenSearch

HIT = SearchHit(image_id="ab" * 16, path="photos/ü.jpg", width=4, height=3, rank=1, score=0.5, distance=1.0)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def board(client: redis.Redis) -> SearchBoard:
    return SearchBoard(client, ttl_seconds=3600, timeout_seconds=60)


def done(record: SearchRecord) -> SearchResult:
    changes = {
        "state": "done",
        "results": [HIT],
        "indexed": 7,
        "took_ms": {"total": 1.5, "embed": 1.5},
        "trained": True,
    }
    return record.result.model_copy(update=changes)


def close(client: redis.Redis, record: SearchRecord, seconds: float = 0) -> None:
    """Gives a search only so much time until it is given up."""
    name = f"{NAMESPACE}:search:{record.result.id}:open"
    assert client.pexpire(name, int(seconds * 1000))


def without_poll(result: SearchResult) -> SearchResult:
    """A result as the worker left it."""
    took = {stage: value for stage, value in result.took_ms.items() if stage != "poll"}
    return result.model_copy(update={"took_ms": {**took, "total": 1.5}, "query": QueryInfo()})


def test_a_search_goes_from_queued_over_running_to_done(board: SearchBoard) -> None:
    query = SearchQuery(k=5, folder="photos/2020", min_score=0.25, crop=(0.1, 0.2, 0.9, 1.0))
    record = board.create(query, [b"picture"])
    assert board.result(record.result.id).state == "queued"
    assert board.record(record.result.id) == record
    assert record.query == query
    assert board.take(record.result.id) == TakenSearch(record, (b"picture",))
    assert board.result(record.result.id).state == "running"
    board.finish(record, done(record))
    assert without_poll(board.result(record.result.id)) == done(record)
    assert board.result(record.result.id, wait_seconds=30).state == "done"


def test_the_picture_is_dropped_with_the_answer(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), [b"picture"])
    assert client.get(f"{NAMESPACE}:upload:{record.result.id}") == b"picture"
    board.finish(record, done(record))
    assert client.get(f"{NAMESPACE}:upload:{record.result.id}") is None


def test_a_search_for_a_stored_image_has_no_picture(board: SearchBoard) -> None:
    record = board.create(SearchQuery(image_id="ab" * 16))
    assert board.take(record.result.id) == TakenSearch(record)


def test_several_pictures_lie_together(board: SearchBoard, client: redis.Redis) -> None:
    pictures = [b"first", b"", b"the third"]
    record = board.create(SearchQuery(images=(QueryImage(),) * 3), pictures)
    assert board.take(record.result.id) == TakenSearch(record, tuple(pictures))
    client.delete(f"{NAMESPACE}:upload:{record.result.id}")
    assert board.take(record.result.id) == TakenSearch(record, None)


def test_what_is_unknown_or_answered_is_not_taken(board: SearchBoard) -> None:
    assert board.take("unknown") is None
    record = board.create(SearchQuery(), [b"picture"])
    board.finish(record, done(record))
    assert board.take(record.result.id) is None
    assert board.result(record.result.id).results == [HIT]


def test_what_was_given_up_is_not_taken_but_ended(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), [b"picture"])
    close(client, record)
    assert board.take(record.result.id) is None
    result = board.result(record.result.id, 10)
    assert result.state == "failed"
    assert "No query worker answered within 60 s" in (result.error or "")
    assert stage_metrics.read(client).ended["failed"] == 1
    assert client.exists(f"{NAMESPACE}:upload:{record.result.id}") == 0


def test_ids_cannot_be_guessed(board: SearchBoard) -> None:
    ids = {board.create(SearchQuery()).result.id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(search_id) == 24 for search_id in ids)


def test_an_unknown_search_is_an_error(board: SearchBoard) -> None:
    for call in (board.result, board.record, lambda search_id: board.result(search_id, 10)):
        with pytest.raises(UnknownSearch, match="submit the image again"):
            call("unknown")


def test_an_expired_search_is_unknown(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), [b"picture"])
    client.pexpire(f"{NAMESPACE}:search:{record.result.id}", 1)
    while client.exists(f"{NAMESPACE}:search:{record.result.id}"):
        time.sleep(0.005)
    with pytest.raises(UnknownSearch):
        board.result(record.result.id)


def test_everything_in_redis_expires(board: SearchBoard, client: redis.Redis) -> None:
    def expire() -> set[bool]:
        names = set(client.scan_iter()) - {stage_metrics.KEY.encode()}
        return {0 < client.ttl(name) <= 3600 for name in names}

    record = board.create(SearchQuery(), [b"picture"])
    assert expire() == {True}
    board.take(record.result.id)
    assert expire() == {True}
    board.finish(record, done(record), FEATURE)
    board.pictures.keep(record.result.id, 0, b"preview")
    board.result(record.result.id)
    assert expire() == {True}


@pytest.mark.parametrize("waiters", [1, 8])
def test_finish_wakes_everybody_who_waits(board: SearchBoard, client: redis.Redis, waiters: int) -> None:
    record = board.create(SearchQuery(), [b"picture"])
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
    assert [without_poll(answer) for answer in answers] == [done(record)] * waiters
    assert len({answer.took_ms["poll"] for answer in answers}) == 1


def test_a_wait_that_ends_without_an_answer_gives_the_state(board: SearchBoard) -> None:
    record = board.create(SearchQuery(), [b"picture"])
    board.take(record.result.id)
    assert board.result(record.result.id, 0.05).state == "running"


def test_a_search_that_nobody_answers_reads_as_failed(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), [b"picture"])
    close(client, record)
    for wait in (0, 10):
        result = board.result(record.result.id, wait)
        assert result.state == "failed"
        assert "No query worker answered within 60 s" in (result.error or "")


def test_a_wait_ends_when_the_search_times_out(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), [b"picture"])
    close(client, record, 0.1)
    assert board.result(record.result.id, 25).state == "failed"


def test_an_answer_that_comes_late_still_counts(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(), [b"picture"])
    close(client, record)
    board.finish(record, done(record))
    assert without_poll(board.result(record.result.id)) == done(record)


# --- pages -------------------------------------------------------------------------------------------------------

FEATURE = QueryFeature("model-1", b"\0\1\2\3" * 8)


def first_page(board: SearchBoard, query: SearchQuery | None = None) -> SearchRecord:
    """A search that is done and has more results."""
    record = board.create(query or SearchQuery(image_id="ab" * 16, k=7, folder="photos", min_score=-0.5))
    hits = [HIT, HIT.model_copy(update={"rank": 2, "score": 0.1 + 0.2, "path": "photos/z.jpg"})]
    changes = {"state": "done", "results": hits, "next_cursor": record.result.id}
    board.finish(record, record.result.model_copy(update=changes), FEATURE)
    return record


def test_the_next_page_goes_on_behind_the_last_result(board: SearchBoard) -> None:
    first = first_page(board)
    query = board.next_page(first.result.id)
    position = SearchPosition(search_id=first.result.id, rank=2, score=0.1 + 0.2, path="photos/z.jpg")
    assert query == first.query.model_copy(update={"after": position})
    assert board.next_page(first.result.id, 3).k == 3
    taken = board.take(board.create(query).result.id)
    assert taken is not None
    assert (taken.feature, taken.uploads) == (FEATURE, ())
    assert taken.record.query.after == position


def test_all_pages_use_the_feature_of_the_first(board: SearchBoard, client: redis.Redis) -> None:
    first = first_page(board)
    second = first_page(board, board.next_page(first.result.id))
    after = board.next_page(second.result.id).after
    assert after is not None
    assert after.search_id == first.result.id


def test_who_reads_on_keeps_the_feature_and_the_pictures(board: SearchBoard, client: redis.Redis) -> None:
    first = first_page(board)
    board.pictures.keep(first.result.id, 0, b"preview")
    for part in ("feature", "pictures"):
        client.expire(f"{NAMESPACE}:search:{first.result.id}:{part}", 5)
    board.next_page(first.result.id)
    for part in ("feature", "pictures"):
        assert client.ttl(f"{NAMESPACE}:search:{first.result.id}:{part}") > 3000


def test_all_pages_name_the_pictures_of_the_first(board: SearchBoard) -> None:
    first = first_page(board, SearchQuery(images=(QueryImage(), QueryImage(weight=-1)), k=2, folder="photos"))
    second = first_page(board, board.next_page(first.result.id))
    third = board.create(board.next_page(second.result.id, 50))
    query = board.result(third.result.id).query
    assert [picture.picture_url for picture in query.images] == [upload_url(first, 0), upload_url(first, 1)]
    assert [picture.weight for picture in query.images] == [1, -1]
    assert (query.k, query.folder) == (50, "photos")


def test_a_page_whose_feature_has_expired_is_taken_without(board: SearchBoard, client: redis.Redis) -> None:
    first = first_page(board)
    page = board.create(board.next_page(first.result.id))
    client.delete(f"{NAMESPACE}:search:{first.result.id}:feature")
    taken = board.take(page.result.id)
    assert taken is not None
    assert taken.feature is None
    with pytest.raises(UnknownSearch):
        board.next_page(first.result.id)


def test_what_has_no_next_page_cannot_be_continued(board: SearchBoard) -> None:
    with pytest.raises(UnknownSearch):
        board.next_page("unknown")
    record = board.create(SearchQuery(), [b"picture"])
    with pytest.raises(InvalidCursor, match="next_cursor"):
        board.next_page(record.result.id)
    board.finish(record, done(record))
    with pytest.raises(InvalidCursor):
        board.next_page(record.result.id)


# --- what was searched for ---------------------------------------------------------------------------------------


def upload_url(record: SearchRecord, number: int) -> str:
    return f"/api/v1/searches/{record.result.id}/pictures/{number}"


def test_every_state_tells_what_was_searched_for(board: SearchBoard, client: redis.Redis) -> None:
    query = SearchQuery(k=5, folder="photos/2020", min_score=0.25, crop=(0.1, 0.2, 0.9, 1.0))
    record = board.create(query, [b"picture"])
    expected = QueryInfo(
        images=[QueryPicture(picture_url=upload_url(record, 0))],
        crop=(0.1, 0.2, 0.9, 1.0),
        folder="photos/2020",
        k=5,
        min_score=0.25,
    )
    assert board.described(record, record.result).query == expected
    assert board.result(record.result.id).query == expected
    board.take(record.result.id)
    assert board.result(record.result.id).query == expected
    board.finish(record, done(record))
    assert board.result(record.result.id).query == expected
    stored = client.get(f"{NAMESPACE}:search:{record.result.id}")
    assert stored.count(b"photos/2020") == 1, "it is not stored twice"


def test_uploads_and_stored_pictures_are_named_with_their_weights(board: SearchBoard) -> None:
    stored = "ab" * 16
    images = (QueryImage(weight=2), QueryImage(image_id=stored, weight=-0.5), QueryImage())
    record = board.create(SearchQuery(images=images), [b"first", b"second"])
    assert board.result(record.result.id).query.images == [
        QueryPicture(weight=2, picture_url=upload_url(record, 0)),
        QueryPicture(image_id=stored, weight=-0.5, picture_url=f"/api/v1/images/{stored}/thumbnail"),
        QueryPicture(picture_url=upload_url(record, 1)),
    ]
    single = board.create(SearchQuery(image_id=stored))
    (picture,) = board.result(single.result.id).query.images
    assert (picture.image_id, picture.weight) == (stored, 1)


def test_a_failed_search_names_only_the_previews_that_there_are(board: SearchBoard) -> None:
    record = board.create(SearchQuery(images=(QueryImage(), QueryImage())), [b"damaged", b"picture"])
    board.finish(record, record.result.model_copy(update={"state": "failed", "error": "damaged"}))
    urls = [picture.picture_url for picture in board.result(record.result.id).query.images]
    assert urls == [None, None]
    board.pictures.keep(record.result.id, 1, b"preview")
    urls = [picture.picture_url for picture in board.result(record.result.id).query.images]
    assert urls == [None, upload_url(record, 1)]


def test_a_search_that_was_given_up_tells_it_too(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(folder="photos"), [b"picture"])
    close(client, record)
    result = board.result(record.result.id)
    assert (result.state, result.query.folder, len(result.query.images)) == ("failed", "photos", 1)


def test_a_record_of_an_older_version_tells_it_too(board: SearchBoard, client: redis.Redis) -> None:
    record = board.create(SearchQuery(image_id="ab" * 16))
    older = record.model_dump(mode="json", exclude={"result": {"query"}})
    hit = HIT.model_dump(mode="json", exclude={"content_hash", "percentile"})
    older["result"] |= {"state": "done", "results": [hit]}
    older["finished_at"] = older["submitted_at"]
    client.set(f"{NAMESPACE}:search:{record.result.id}", json.dumps(older), ex=100)
    result = board.result(record.result.id)
    assert result.results == [HIT]
    assert result.query.images[0].image_id == "ab" * 16


# --- where the time goes -----------------------------------------------------------------------------------------


def test_the_upload_ends_with_the_record(board: SearchBoard) -> None:
    assert board.create(SearchQuery(), [b"picture"]).upload_ms is None
    began = time.perf_counter() - 2
    upload = board.create(SearchQuery(), [b"picture"], began).upload_ms
    assert upload is not None
    assert upload >= 2000


def finished(board: SearchBoard, client: redis.Redis, seconds_ago: float) -> SearchRecord:
    """A search that was answered some time ago, by the clock of its worker."""
    record = board.create(SearchQuery(), [b"picture"])
    board.finish(record, done(record))
    stored = board.record(record.result.id)
    assert stored.finished_at is not None
    older = stored.model_copy(update={"finished_at": stored.finished_at - seconds_ago})
    client.set(f"{NAMESPACE}:search:{record.result.id}", older.model_dump_json(), ex=100)
    return record


def test_the_first_answer_ends_the_poll_and_later_ones_repeat_it(board: SearchBoard, client: redis.Redis) -> None:
    record = finished(board, client, seconds_ago=2)
    first = board.result(record.result.id).took_ms
    assert list(first) == ["total", "embed", "poll"]
    assert first["poll"] >= 2000
    assert first["total"] == pytest.approx(1.5 + first["poll"])
    assert board.result(record.result.id).took_ms == first
    assert board.result(record.result.id, 10).took_ms == first


def test_a_worker_whose_clock_is_ahead_makes_no_negative_poll(board: SearchBoard, client: redis.Redis) -> None:
    record = finished(board, client, seconds_ago=-100)
    assert board.result(record.result.id).took_ms == {"total": 1.5, "embed": 1.5, "poll": 0.0}


def test_each_stage_of_a_search_is_counted_once(board: SearchBoard, client: redis.Redis) -> None:
    record = finished(board, client, seconds_ago=0)
    counts = {stage: histogram.count for stage, histogram in stage_metrics.read(client).stages.items()}
    assert {stage for stage, count in counts.items() if count} == {"embed"}
    for _ in range(3):
        took = board.result(record.result.id).took_ms
    metrics = stage_metrics.read(client)
    counts = {stage: histogram.count for stage, histogram in metrics.stages.items() if histogram.count}
    assert counts == {"embed": 1, "poll": 1, "total": 1}
    assert metrics.stages["total"].seconds == pytest.approx(took["total"] / 1000)
    assert (metrics.ended["done"], metrics.ended["failed"]) == (1, 0)
