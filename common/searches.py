"""The records of searches in Redis: the image's bytes, the state, and the ranked results, all with an expiry."""

from __future__ import annotations

import secrets
import time
from typing import cast

import redis

from common.errors import UnknownSearch
from common.messages import SearchQuery, SearchRecord, SearchResult
from common.redis_client import key

# The image need not outlive its turn in the queue by much.
UPLOAD_TTL_SECONDS = 600


class SearchBoard:
    """Reads and writes search records.

    Args:
        client: Redis.
        ttl_seconds: How long a record is kept after its last change.
        timeout_seconds: An unanswered search older than this reads as failed, so that nobody waits for ever.
    """

    def __init__(self, client: redis.Redis, *, ttl_seconds: int, timeout_seconds: int) -> None:
        self._redis = client
        self._ttl = ttl_seconds
        self._timeout = timeout_seconds

    def create(self, query: SearchQuery, image: bytes | None) -> SearchRecord:
        """Stores a new search, and the image it is for unless the query names a stored one."""
        record = SearchRecord(
            query=query, result=SearchResult(id=secrets.token_hex(12), state="queued"), submitted_at=time.time()
        )
        with self._redis.pipeline() as pipe:
            if image is not None:
                pipe.set(key("upload", record.result.id), image, ex=UPLOAD_TTL_SECONDS)
            pipe.set(key("search", record.result.id), record.model_dump_json(), ex=self._ttl)
            pipe.execute()
        return record

    def image(self, search_id: str) -> bytes | None:
        """The uploaded bytes, or None if they have expired."""
        return cast("bytes | None", self._redis.get(key("upload", search_id)))

    def record(self, search_id: str) -> SearchRecord:
        """The record as stored.

        Raises:
            UnknownSearch: There is none, or it has expired.
        """
        data = cast("bytes | None", self._redis.get(key("search", search_id)))
        if data is None:
            raise UnknownSearch
        return SearchRecord.model_validate_json(data)

    def start(self, record: SearchRecord) -> None:
        """Marks the search as running."""
        self._save(record, record.result.model_copy(update={"state": "running"}))

    def finish(self, record: SearchRecord, result: SearchResult) -> None:
        """Stores the outcome and wakes everybody who waits for it."""
        wake = key("search", record.result.id, "finished")
        with self._redis.pipeline() as pipe:
            pipe.set(
                key("search", record.result.id),
                record.model_copy(update={"result": result}).model_dump_json(),
                ex=self._ttl,
            )
            pipe.delete(key("upload", record.result.id), wake)
            pipe.rpush(wake, 1)
            pipe.expire(wake, self._ttl)
            pipe.execute()

    def result(self, search_id: str, wait_seconds: float = 0) -> SearchResult:
        """The state of a search; waits until it is answered, for at most `wait_seconds`.

        Raises:
            UnknownSearch: There is none, or it has expired.
        """
        record = self.record(search_id)
        if wait_seconds > 0 and record.result.state in {"queued", "running"}:
            wake = key("search", search_id, "finished")
            # Rotating the one-element list onto itself wakes any number of waiters, early or late.
            self._redis.blmove(wake, wake, cast("int", min(wait_seconds, self._remaining(record))))
            record = self.record(search_id)
        if record.result.state in {"queued", "running"} and time.time() - record.submitted_at > self._timeout:
            return record.result.model_copy(
                update={
                    "state": "failed",
                    "error": f"No query worker answered within {self._timeout} s. Is one running? "
                    "Start it with: imagesearch worker --queues query",
                }
            )
        return record.result

    def _remaining(self, record: SearchRecord) -> float:
        return max(0.05, record.submitted_at + self._timeout - time.time())

    def _save(self, record: SearchRecord, result: SearchResult) -> None:
        changed = record.model_copy(update={"result": result})
        self._redis.set(key("search", record.result.id), changed.model_dump_json(), ex=self._ttl)
