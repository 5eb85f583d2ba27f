"""The records of searches in Redis: the images' bytes, the state, and the ranked results, all with an expiry.

Beside the record of a search lies a key that says that it is open: its value is the state, and it expires when the
search is given up. So one clock, that of Redis, decides for the web tier and the workers alike.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from typing import cast

import redis

from common import stage_metrics
from common.errors import InvalidCursor, UnknownSearch
from common.messages import (
    QueryImage,
    QueryInfo,
    QueryPicture,
    SearchPosition,
    SearchQuery,
    SearchRecord,
    SearchResult,
    SearchState,
    thumbnail_url,
)
from common.query_pictures import QueryPictures
from common.redis_client import key
from common.stopwatch import milliseconds_since, with_total

# The image need not outlive its turn in the queue by much.
UPLOAD_TTL_SECONDS = 600
# A wait lasts a little longer than the search may, so that it sees how that ends; 0 would mean for ever.
_WAIT_BEYOND_SECONDS = 0.05
# How often a wait that may be ended looks whether it is.
_LOOK_SECONDS = 1.0

# KEYS: poll, metrics. ARGV: milliseconds, expiry, field, increment, field, increment…
# The first one to hand an answer out decides what its poll took, and counts it; all others repeat it.
_FIRST_POLL = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  for i = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1]) end
end
return redis.call('GET', KEYS[1])
"""


@dataclass(frozen=True)
class QueryFeature:
    """What a search compares with the stored features; kept for its next pages.

    Attributes:
        fingerprint: The model that it comes from.
        data: (d,) float32, little-endian.
    """

    fingerprint: str
    data: bytes


@dataclass(frozen=True)
class TakenSearch:
    """A search for a worker to answer.

    Attributes:
        record: What is searched for.
        uploads: The bytes of the uploaded pictures; None if they have expired.
        feature: That of the first page, if this is a later one and it has not expired.
    """

    record: SearchRecord
    uploads: tuple[bytes, ...] | None = ()
    feature: QueryFeature | None = None


@dataclass(frozen=True)
class _Reading:
    record: SearchRecord
    open_as: SearchState | None
    """None: answered, or given up."""
    open_seconds: float
    poll_ms: float | None


class SearchBoard:
    """Reads and writes search records.

    Args:
        client: Redis.
        ttl_seconds: How long a record is kept after its last change.
        timeout_seconds: An unanswered search older than this reads as failed, so that nobody waits for ever.

    Attributes:
        pictures: Previews of what was uploaded.
    """

    def __init__(self, client: redis.Redis, *, ttl_seconds: int, timeout_seconds: int) -> None:
        self._redis = client
        self._ttl = ttl_seconds
        self._timeout = timeout_seconds
        self.pictures = QueryPictures(client, ttl_seconds=ttl_seconds)
        self._first_poll = client.register_script(_FIRST_POLL)

    def create(self, query: SearchQuery, uploads: Sequence[bytes] = (), began: float | None = None) -> SearchRecord:
        """Stores a new search, and the pictures it is for where the query names no stored ones.

        Args:
            query: What is searched for.
            uploads: The bytes of picture files.
            began: The `time.perf_counter()` when the client's request came: what passed since then is the upload.
        """
        search_id = secrets.token_hex(12)
        if uploads:
            # A step of its own: storing the pictures is part of the upload, and the queue begins after it.
            self._redis.set(key("upload", search_id), b"".join(uploads), ex=UPLOAD_TTL_SECONDS)
        record = SearchRecord(
            query=query,
            result=SearchResult(id=search_id, state="queued"),
            submitted_at=time.time(),
            upload_sizes=tuple(map(len, uploads)),
            upload_ms=None if began is None else (time.perf_counter() - began) * 1000,
        )
        with self._redis.pipeline() as pipe:
            pipe.set(key("search", search_id), _stored(record), ex=self._ttl)
            pipe.set(key("search", search_id, "open"), "queued", ex=self._timeout)
            pipe.execute()
        return record

    def record(self, search_id: str) -> SearchRecord:
        """The record as stored.

        Raises:
            UnknownSearch: There is none, or it has expired.
        """
        data = cast("bytes | None", self._redis.get(key("search", search_id)))
        if data is None:
            raise UnknownSearch
        return SearchRecord.model_validate_json(data)

    def next_page(self, cursor: str, k: int | None = None) -> SearchQuery:
        """The query that goes on where a search ended.

        Args:
            cursor: The `next_cursor` of that search: its id, because its record says where it ended.
            k: How many results; as many as before by default.

        Raises:
            UnknownSearch: There is no such search, or it has expired.
            InvalidCursor: The search has no next page.
        """
        record = self.record(cursor)
        if record.result.next_cursor is None:
            raise InvalidCursor
        before, last = record.query.after, record.result.results[-1]
        first_id = record.result.id if before is None else before.search_id
        # Who goes on reading keeps it.
        if not self._redis.expire(key("search", first_id, "feature"), self._ttl):
            raise UnknownSearch
        self.pictures.renew(first_id)
        after = SearchPosition(search_id=first_id, rank=last.rank, score=last.score, path=last.path)
        return record.query.model_copy(update={"after": after, "k": k or record.query.k})

    def take(self, search_id: str) -> TakenSearch | None:
        """Marks a search as running and gives it to a worker, with what lies beside it if that is still there.

        Returns:
            None if there is nothing to do any more: it has expired, is answered, or everybody was told that it
            failed because nobody took it in time.
        """
        with self._redis.pipeline() as pipe:
            pipe.get(key("search", search_id))
            pipe.get(key("upload", search_id))
            pipe.set(key("search", search_id, "open"), "running", xx=True, keepttl=True)
            data, uploads, is_open = pipe.execute()
        if data is None:
            return None
        record = SearchRecord.model_validate_json(data)
        if record.finished_at is not None:
            return None
        if not is_open:
            self.finish(record, self._given_up(record))
            return None
        feature = None if record.query.after is None else self._feature(record.query.after.search_id)
        return TakenSearch(record, _split(uploads, record.upload_sizes), feature)

    def _feature(self, search_id: str) -> QueryFeature | None:
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(key("search", search_id, "feature")))
        return QueryFeature(stored[b"fingerprint"].decode(), stored[b"data"]) if stored else None

    def finish(self, record: SearchRecord, result: SearchResult, feature: QueryFeature | None = None) -> None:
        """Stores the outcome, counts it, and wakes everybody who waits for it.

        Args:
            record: The search.
            result: Its outcome.
            feature: What was searched for, if there may be more pages.
        """
        search_id = record.result.id
        wake = key("search", search_id, "finished")
        finished = record.model_copy(update={"result": result, "finished_at": time.time()})
        with self._redis.pipeline() as pipe:
            pipe.set(key("search", search_id), _stored(finished), ex=self._ttl)
            pipe.delete(key("upload", search_id), key("search", search_id, "open"), wake)
            pipe.rpush(wake, 1)
            pipe.expire(wake, self._ttl)
            if feature is not None:
                kept = key("search", search_id, "feature")
                pipe.hset(kept, mapping={"fingerprint": feature.fingerprint, "data": feature.data})
                pipe.expire(kept, self._ttl)
            stage_metrics.count(pipe, _parts(result), result.state)
            pipe.execute()

    def result(
        self, search_id: str, wait_seconds: float = 0, is_ending: Callable[[], bool] | None = None
    ) -> SearchResult:
        """The state of a search; waits until it is answered, for at most `wait_seconds`.

        Args:
            search_id: The search.
            wait_seconds: The longest wait.
            is_ending: Asked every second; when true, the wait ends with the state as it is.

        Raises:
            UnknownSearch: There is none, or it has expired.
        """
        reading = self._read(search_id)
        if wait_seconds > 0 and reading.open_as is not None:
            wake = key("search", search_id, "finished")
            self._await(wake, min(wait_seconds, reading.open_seconds + _WAIT_BEYOND_SECONDS), is_ending)
            reading = self._read(search_id)
        if reading.record.finished_at is not None:
            return self.described(reading.record, self._handed_out(reading))
        if reading.open_as is None:
            return self.described(reading.record, self._given_up(reading.record))
        return self.described(reading.record, reading.record.result.model_copy(update={"state": reading.open_as}))

    def _await(self, wake: str, seconds: float, is_ending: Callable[[], bool] | None) -> None:
        look = seconds if is_ending is None else _LOOK_SECONDS
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not (is_ending and is_ending()):
            # Rotating the one-element list onto itself wakes any number of waiters, early or late. Redis counts in
            # milliseconds, and none would mean for ever.
            if self._redis.blmove(wake, wake, cast("int", max(0.001, min(left, look)))):
                return

    def described(self, record: SearchRecord, result: SearchResult) -> SearchResult:
        """A result as clients get it: with what was searched for, which follows from the record."""
        previews: Container[int] | None = None
        if result.state == "failed" and record.query.after is None and record.upload_sizes:
            previews = self.pictures.numbers(result.id)
        return result.model_copy(update={"query": _query_info(record, previews)})

    def _read(self, search_id: str) -> _Reading:
        with self._redis.pipeline() as pipe:
            pipe.get(key("search", search_id))
            pipe.get(key("search", search_id, "open"))
            pipe.pttl(key("search", search_id, "open"))
            pipe.get(key("search", search_id, "poll"))
            data, open_as, open_ms, poll = pipe.execute()
        if data is None:
            raise UnknownSearch
        return _Reading(
            record=SearchRecord.model_validate_json(data),
            open_as=cast("SearchState", open_as.decode()) if open_as is not None else None,
            open_seconds=max(0, open_ms) / 1000,
            poll_ms=float(poll) if poll is not None else None,
        )

    def _handed_out(self, reading: _Reading) -> SearchResult:
        """The outcome with the time until it was handed out for the first time."""
        result, poll = reading.record.result, reading.poll_ms
        if poll is None:
            poll = round(milliseconds_since(cast("float", reading.record.finished_at)), 2)
            took = with_total({**_parts(result), "poll": poll})
            counts = stage_metrics.increments({"poll": poll, "total": took["total"]})
            poll = float(
                self._first_poll(
                    keys=[key("search", result.id, "poll"), stage_metrics.KEY],
                    args=[poll, self._ttl, *(part for item in counts.items() for part in item)],
                )
            )
        return result.model_copy(update={"took_ms": with_total({**_parts(result), "poll": poll})})

    def _given_up(self, record: SearchRecord) -> SearchResult:
        error = (
            f"No query worker answered within {self._timeout} s. Is one running? "
            "Start it with: imagesearch worker --queues query"
        )
        return record.result.model_copy(update={"state": "failed", "error": error, "error_status": 503})


def _stored(record: SearchRecord) -> str:
    """A record as it lies in Redis: without what is made anew each time it is handed out."""
    return record.model_dump_json(exclude={"result": {"query"}})


def _query_info(record: SearchRecord, previews: Container[int] | None) -> QueryInfo:
    """What was searched for.

    Args:
        record: The search.
        previews: The uploads of which there are previews; None: all have one, or will have.
    """
    query = record.query
    # The uploads of a next page are those of the first.
    search_id = record.result.id if query.after is None else query.after.search_id
    uploads = count()

    def picture(image: QueryImage) -> QueryPicture:
        if image.image_id is not None:
            url: str | None = thumbnail_url(image.image_id)
        else:
            number = next(uploads)
            has_url = previews is None or number in previews
            url = f"/api/v1/searches/{search_id}/pictures/{number}" if has_url else None
        return QueryPicture(image_id=image.image_id, weight=image.weight, picture_url=url)

    return QueryInfo(
        images=[picture(image) for image in query.pictures],
        crop=query.crop,
        folder=query.folder,
        k=query.k,
        min_score=query.min_score,
    )


def _parts(result: SearchResult) -> dict[str, float]:
    """The stages without the total, which is not known before the answer is handed out."""
    return {stage: value for stage, value in result.took_ms.items() if stage != "total"}


def _split(data: bytes | None, sizes: tuple[int, ...]) -> tuple[bytes, ...] | None:
    """The uploads, which lie in Redis as one value so that they expire together."""
    if data is None:
        return None if sizes else ()
    ends = list(accumulate(sizes))
    return tuple(data[end - size : end] for size, end in zip(sizes, ends, strict=True))
