"""How many searches ended, and how long their stages took: counted in Redis, so that all processes agree.

One hash holds everything. It does not expire; a Redis that was emptied starts again from zero, which is what
Prometheus expects of a counter that was restarted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import redis
from redis.client import Pipeline

from common.redis_client import key
from common.stopwatch import STAGES

KEY = key("metrics", "queries")
STATES = ("done", "failed")
MEASURED = (*STAGES, "total")
# Upper bounds in seconds. A pass of the network lies in the middle; the web tier's part and a long queue at the ends.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NAMES = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")


@dataclass(frozen=True)
class Histogram:
    """One stage: how many searches took at most each bound, and the sum in seconds."""

    buckets: dict[str, int]
    seconds: float

    @property
    def count(self) -> int:
        """All searches that had this stage."""
        return self.buckets[_NAMES[-1]]


@dataclass(frozen=True)
class QueryMetrics:
    """All that was counted."""

    ended: dict[str, int]
    stages: dict[str, Histogram]


def increments(took_ms: Mapping[str, float], state: str | None = None) -> dict[str, int]:
    """What one search adds to the hash.

    Args:
        took_ms: The stages to count.
        state: In what the search ended, unless that was counted before.
    """
    found = {f"ended:{state}": 1} if state is not None else {}
    for stage in MEASURED:
        if stage in took_ms:
            found[f"{stage}:{_NAMES[bisect_left(BOUNDS, took_ms[stage] / 1000)]}"] = 1
            # Whole microseconds: an integer does not drift, however many are added.
            found[f"{stage}:sum"] = round(took_ms[stage] * 1000)
    return found


def count(pipe: Pipeline, took_ms: Mapping[str, float], state: str) -> None:
    """Counts a search that ended, as part of a pipeline."""
    for field, amount in increments(took_ms, state).items():
        pipe.hincrby(KEY, field, amount)


def read(client: redis.Redis) -> QueryMetrics:
    """Everything counted so far; zeros for what has never happened."""
    stored = cast("dict[bytes, bytes]", client.hgetall(KEY))
    values = {name.decode(): int(value) for name, value in stored.items()}
    return QueryMetrics(
        ended={state: values.get(f"ended:{state}", 0) for state in STATES},
        stages={stage: _histogram(stage, values) for stage in MEASURED},
    )


def _histogram(stage: str, values: Mapping[str, int]) -> Histogram:
    buckets: dict[str, int] = {}
    below = 0
    for name in _NAMES:
        below += values.get(f"{stage}:{name}", 0)
        buckets[name] = below
    return Histogram(buckets, values.get(f"{stage}:sum", 0) / 1e6)
