"""How many of the best results searches find, measured on samples and counted in Redis by all query workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import redis

from common.redis_client import key, refusals_ignored

KEY = key("metrics", "recall")
DEPTH = 10
"""How many results of a sample are compared with those of the exact ranking."""


@dataclass(frozen=True, slots=True)
class RecallTotals:
    """Of all sampled queries: how many of the best ten there were, and how many of these were found."""

    hits: int = 0
    possible: int = 0

    @property
    def recall(self) -> float | None:
        """The part that was found; None before the first sample."""
        return self.hits / self.possible if self.possible else None


class RecallBoard:
    """The totals of all query workers, in Redis.

    Args:
        client: Redis.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def add(self, hits: int, possible: int) -> None:
        """Counts one sample, if Redis takes it."""
        with refusals_ignored(), self._redis.pipeline() as pipe:
            pipe.hincrby(KEY, "hits", hits)
            pipe.hincrby(KEY, "possible", possible)
            pipe.execute()

    def read(self) -> RecallTotals:
        """What was counted so far."""
        values = cast("list[bytes | None]", self._redis.hmget(KEY, ["hits", "possible"]))
        return RecallTotals(*(int(value or 0) for value in values))
