"""The records of searches in Redis: the images' bytes, the state, and the ranked results, all with an expiry.

Beside the record of a search lies a key that says that it is open: its value is the state, and it expires when the
search is given up. Another one says that somebody wants the answer: whoever asks for it renews that, and what nobody
has asked for when its turn comes is not computed. So one clock, that of Redis, decides for the web tier and the workers
alike.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import redis

from common import stage_metrics
from common.errors import InvalidCursor, UnknownSearch
from common.messages import SearchPosition, SearchQuery, SearchRecord, SearchResult
from common.redis_client import is_refusal, key, refusals_ignored
from common.search_queue import QueueLimits, SearchQueue
from common.search_reading import SearchReader, lost_key, stage_parts
from common.settings import Settings

logger = logging.getLogger(__name__)

# Pauses between attempts to store an answer that Redis refuses.
_FINISH_PAUSES = (0.2, 0.5, 1.0, 2.0)


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


class SearchBoard(SearchReader):
    """Reads and writes search records.

    Args:
        client: Redis.
        ttl_seconds: How long a record is kept after its last change.
        timeout_seconds: An unanswered search older than this reads as failed, so that nobody waits for ever.
        limits: How many searches may wait.

    Attributes:
        queue: The searches that wait.
        interest: Who waits for them.
        pictures: Previews of what was uploaded.
    """

    def __init__(
        self, client: redis.Redis, *, ttl_seconds: int, timeout_seconds: int, limits: QueueLimits | None = None
    ) -> None:
        super().__init__(client, ttl_seconds=ttl_seconds, timeout_seconds=timeout_seconds)
        self.queue = SearchQueue(client, timeout_seconds=timeout_seconds, limits=limits or QueueLimits())

    @classmethod
    def of(cls, settings: Settings, client: redis.Redis) -> SearchBoard:
        """The board as the settings want it."""
        return cls(
            client,
            ttl_seconds=settings.search_ttl_seconds,
            timeout_seconds=settings.search_timeout_seconds,
            limits=QueueLimits(settings.max_queued_searches, settings.max_queued_bytes),
        )

    def create(self, query: SearchQuery, uploads: Sequence[bytes] = (), began: float | None = None) -> SearchRecord:
        """Stores a new search, and the pictures it is for where the query names no stored ones.

        Args:
            query: What is searched for.
            uploads: The bytes of picture files.
            began: The `time.perf_counter()` when the client's request came: what passed since then is the upload.

        Raises:
            TooManySearches: There is no place for it in the queue.
            RedisFull: Redis has no memory for it.
        """
        search_id = secrets.token_hex(12)
        self.queue.admit(search_id, sum(map(len, uploads)))
        record = SearchRecord(
            query=query,
            result=SearchResult(id=search_id, state="queued"),
            submitted_at=time.time(),
            upload_sizes=tuple(map(len, uploads)),
            upload_ms=None if began is None else (time.perf_counter() - began) * 1000,
        )
        with self._redis.pipeline() as pipe:
            if uploads:
                pipe.set(key("upload", search_id), b"".join(uploads), ex=self._timeout)
            pipe.set(key("search", search_id), _stored(record), ex=self._ttl)
            pipe.set(key("search", search_id, "open"), "queued", ex=self._timeout)
            pipe.execute()
        return record

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
            None if there is nothing to do any more: it has expired, is answered, everybody was told that it
            failed because nobody took it in time, or nobody waits for it any more.
        """
        # No transaction: a Redis without memory refuses only the mark, and the search is computed nevertheless.
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(key("search", search_id))
            pipe.get(key("upload", search_id))
            pipe.exists(key("search", search_id, "open"))
            self.interest.ask(pipe, search_id)
            pipe.set(key("search", search_id, "open"), "running", xx=True, keepttl=True)
            self.queue.taken(pipe, search_id)
            answers = pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not is_refusal(answer):
                raise answer
        data, uploads, is_open, is_wanted = answers[:4]
        if data is None:
            return None
        record = SearchRecord.model_validate_json(data)
        if record.finished_at is not None:
            return None
        if not is_open:
            self.finish(record, self._given_up(record))
            return None
        if not is_wanted:
            self.finish(record, _abandoned(record), outcome="abandoned")
            return None
        feature = None if record.query.after is None else self._feature(record.query.after.search_id)
        return TakenSearch(record, _split(uploads, record.upload_sizes), feature)

    def _feature(self, search_id: str) -> QueryFeature | None:
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(key("search", search_id, "feature")))
        return QueryFeature(stored[b"fingerprint"].decode(), stored[b"data"]) if stored else None

    def finish(
        self,
        record: SearchRecord,
        result: SearchResult,
        feature: QueryFeature | None = None,
        *,
        outcome: str | None = None,
    ) -> None:
        """Stores the outcome, counts it, and wakes everybody who waits for it.

        Where Redis does not take it, even after some seconds, those who wait are told so if that is possible.

        Args:
            record: The search.
            result: Its outcome.
            feature: What was searched for, if there may be more pages.
            outcome: As what it is counted; by default, the state of the result.
        """
        for pause in (*_FINISH_PAUSES, 0.0):
            try:
                return self._finish(record, result, feature, outcome or result.state)
            except redis.RedisError as error:
                if not is_refusal(error):
                    raise
            # What is not needed any more goes first: that may be all the memory that was missing.
            with refusals_ignored():
                self._redis.delete(key("upload", record.result.id))
            time.sleep(pause)
        self._lose(record.result.id)

    def _lose(self, search_id: str) -> None:
        """Says that there is no room for an answer: a key may have another name also where no memory is left."""
        logger.warning("the answer to search %s is lost: Redis does not take it", search_id)
        with suppress(redis.ResponseError), self._redis.pipeline(transaction=False) as pipe:
            pipe.rename(key("search", search_id, "open"), lost_key(search_id))
            pipe.expire(lost_key(search_id), self._ttl)
            pipe.execute()

    def _finish(self, record: SearchRecord, result: SearchResult, feature: QueryFeature | None, outcome: str) -> None:
        search_id = record.result.id
        wake = key("search", search_id, "finished")
        finished = record.model_copy(update={"result": result, "finished_at": time.time()})
        with self._redis.pipeline() as pipe:
            pipe.set(key("search", search_id), _stored(finished), ex=self._ttl)
            beside = (key("search", search_id, part) for part in ("open", "wanted", "finished"))
            pipe.delete(key("upload", search_id), *beside)
            pipe.rpush(wake, 1)
            pipe.expire(wake, self._ttl)
            if feature is not None:
                kept = key("search", search_id, "feature")
                pipe.hset(kept, mapping={"fingerprint": feature.fingerprint, "data": feature.data})
                pipe.expire(kept, self._ttl)
            stage_metrics.count(pipe, stage_parts(result), outcome)
            self.queue.ended(pipe, search_id, sum(record.upload_sizes))
            pipe.execute()

    def withdraw(self, search_id: str) -> None:
        """Says that somebody does not wait any more: if nobody else asks, the search is not computed.

        Raises:
            UnknownSearch: There is none, or it has expired.
        """
        if not self._redis.exists(key("search", search_id)):
            raise UnknownSearch
        self.interest.leave(search_id)


def _abandoned(record: SearchRecord) -> SearchResult:
    error = "Nobody waited for this search any more when its turn came, so it was not computed. Search again."
    return record.result.model_copy(update={"state": "failed", "error": error})


def _stored(record: SearchRecord) -> str:
    """A record as it lies in Redis: without what is made anew each time it is handed out."""
    return record.model_dump_json(exclude={"result": {"query"}})


def _split(data: bytes | None, sizes: tuple[int, ...]) -> tuple[bytes, ...] | None:
    """The uploads, which lie in Redis as one value so that they expire together."""
    if data is None:
        return None if sizes else ()
    ends = list(accumulate(sizes))
    return tuple(data[end - size : end] for size, end in zip(sizes, ends, strict=True))
