"""Reading searches, and waiting for them: what the record of a search and the keys beside it come to.

A key beside its record says whether a search is open, and for how long yet. When an answer is handed out for the first
time it gets its last figure: the time from its end until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import cast

import redis

from common import stage_metrics
from common.errors import UnknownSearch
from common.messages import SearchRecord, SearchResult, SearchState
from common.query_info import query_info
from common.query_pictures import QueryPictures
from common.redis_client import is_refusal, key, refusals_ignored
from common.search_interest import Interest
from common.stopwatch import milliseconds_since, with_total

# In a wait it is looked so often whether the client is still there, and said that it is.
_LOOK_SECONDS = 1.0
# A wait lasts a little longer than the search may, so that it sees how that ends; 0 would mean for ever.
_WAIT_BEYOND_SECONDS = 0.05

# KEYS: poll, metrics. ARGV: milliseconds, expiry, field, increment, field, increment…
# The first one to hand an answer out decides what its poll took, and counts it; all others repeat it.
_FIRST_POLL = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  for i = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1]) end
end
return redis.call('GET', KEYS[1])
"""


@dataclass(frozen=True)
class _Reading:
    record: SearchRecord
    open_as: SearchState | None
    """None: answered, or given up."""
    open_seconds: float
    is_lost: bool
    """Computed, but Redis has not taken the answer."""
    poll_ms: float | None


class SearchReader:
    """Reads search records.

    Args:
        client: Redis.
        ttl_seconds: How long a record is kept after its last change.
        timeout_seconds: An unanswered search older than this reads as failed, so that nobody waits for ever.

    Attributes:
        interest: Who waits for searches.
        pictures: Previews of what was uploaded.
    """

    def __init__(self, client: redis.Redis, *, ttl_seconds: int, timeout_seconds: int) -> None:
        self._redis = client
        self._ttl = ttl_seconds
        self._timeout = timeout_seconds
        self.pictures = QueryPictures(client, ttl_seconds=ttl_seconds)
        self.interest = Interest(client)
        self._first_poll = client.register_script(_FIRST_POLL)

    def record(self, search_id: str) -> SearchRecord:
        """The record as stored.

        Raises:
            UnknownSearch: There is none, or it has expired.
        """
        data = cast("bytes | None", self._redis.get(key("search", search_id)))
        if data is None:
            raise UnknownSearch
        return SearchRecord.model_validate_json(data)

    def result(
        self,
        search_id: str,
        wait_seconds: float = 0,
        is_ending: Callable[[], bool] = lambda: False,
        is_there: Callable[[], bool] = lambda: True,
    ) -> SearchResult:
        """The state of a search; waits until it is answered, for at most `wait_seconds`.

        Args:
            search_id: The search.
            wait_seconds: How long to wait.
            is_ending: Asked every second; when true, the wait ends with the state as it is.
            is_there: Asked every second, whether the client still waits: if not, this does not either.

        Raises:
            UnknownSearch: There is none, or it has expired.
        """
        deadline = time.monotonic() + wait_seconds
        reading = self._read(search_id)
        while reading.open_as is not None:
            if not is_there():
                self.interest.leave(search_id)
                break
            left = min(deadline - time.monotonic(), reading.open_seconds + _WAIT_BEYOND_SECONDS)
            if left <= 0 or is_ending():
                break
            reading = self._read(search_id, min(left, _LOOK_SECONDS))
        if reading.record.finished_at is not None:
            return self.described(reading.record, self._handed_out(reading))
        if reading.open_as is None:
            return self.described(reading.record, self._given_up(reading.record, is_lost=reading.is_lost))
        return self.described(reading.record, reading.record.result.model_copy(update={"state": reading.open_as}))

    def described(self, record: SearchRecord, result: SearchResult) -> SearchResult:
        """A result as clients get it: with what was searched for, which follows from the record."""
        previews: Container[int] | None = None
        if result.state == "failed" and record.query.after is None and record.upload_sizes:
            previews = self.pictures.numbers(result.id)
        return result.model_copy(update={"query": query_info(record, previews)})

    def _read(self, search_id: str, wait_seconds: float = 0) -> _Reading:
        """Reads a search for somebody who wants its answer, if need be after a wait for its end."""
        # No transaction: a Redis without memory refuses it. The record comes last: of a search that is not open any
        # more it then says how that ended.
        with self._redis.pipeline(transaction=False) as pipe:
            if wait_seconds:
                self.interest.wait(pipe, search_id, wait_seconds)
            self.interest.renew(pipe, search_id)
            pipe.get(key("search", search_id, "open"))
            pipe.pttl(key("search", search_id, "open"))
            pipe.exists(lost_key(search_id))
            pipe.get(key("search", search_id, "poll"))
            pipe.get(key("search", search_id))
            *noted, open_as, open_ms, is_lost, poll, data = pipe.execute(raise_on_error=False)
        for answer in (open_as, open_ms, is_lost, poll, data):
            if isinstance(answer, Exception):
                raise answer
        for answer in noted:
            if isinstance(answer, Exception) and not is_refusal(answer):
                raise answer
        if wait_seconds and isinstance(noted[0], Exception):
            time.sleep(wait_seconds)  # where Redis refuses to wait, one waits here
            return self._read(search_id)
        renewed = noted[-1]
        if open_as is not None and not renewed:
            self.interest.begin(search_id)
        if data is None:
            raise UnknownSearch
        return _Reading(
            record=SearchRecord.model_validate_json(data),
            open_as=cast("SearchState", open_as.decode()) if open_as is not None else None,
            open_seconds=max(0, open_ms) / 1000,
            is_lost=bool(is_lost),
            poll_ms=float(poll) if poll is not None else None,
        )

    def _handed_out(self, reading: _Reading) -> SearchResult:
        """The outcome with the time until it was handed out for the first time."""
        result, poll = reading.record.result, reading.poll_ms
        if poll is None:
            poll = round(milliseconds_since(cast("float", reading.record.finished_at)), 2)
            took = with_total({**stage_parts(result), "poll": poll})
            counts = stage_metrics.increments({"poll": poll, "total": took["total"]})
            with refusals_ignored():
                poll = float(
                    self._first_poll(
                        keys=[key("search", result.id, "poll"), stage_metrics.KEY],
                        args=[poll, self._ttl, *(part for item in counts.items() for part in item)],
                    )
                )
        return result.model_copy(update={"took_ms": with_total({**stage_parts(result), "poll": poll})})

    def _given_up(self, record: SearchRecord, *, is_lost: bool = False) -> SearchResult:
        error = (
            f"No query worker answered within {self._timeout} s. Is one running? "
            "Start it with: imagesearch worker --queues query"
        )
        if is_lost:
            error = "The search was computed, but Redis had no memory left for its answer. Search again in a while."
        return record.result.model_copy(update={"state": "failed", "error": error, "error_status": 503})


def lost_key(search_id: str) -> str:
    """What the key of an open search is renamed to when there is no room for its answer."""
    return key("search", search_id, "lost")


def stage_parts(result: SearchResult) -> dict[str, float]:
    """The stages without the total, which is not known before the answer is handed out."""
    return {stage: value for stage, value in result.took_ms.items() if stage != "total"}
