"""How many searches ended, why some failed, and how long their stages took: counted in Redis by all processes.

One hash holds everything. It does not expire; a Redis that was emptied starts again from zero, which is what
Prometheus expects of a counter that was restarted.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import redis
from redis.client import Pipeline

from common.histograms import Histogram, Scale, add
from common.redis_client import key
from common.stopwatch import STAGES

KEY = key("metrics", "queries")
# Refused is what found no place in the queue; abandoned, what nobody waited for any more when its turn came.
STATES = ("done", "failed", "abandoned", "refused")
MEASURED = (*STAGES, "total")
# A pass of the network lies in the middle; the web tier's part and a long queue at the ends.
_SCALE = Scale((0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0))
_FAILED = "failed-of:"


@dataclass(frozen=True)
class QueryMetrics:
    """All that was counted.

    Attributes:
        ended: Searches by outcome.
        failed: Searches that a worker could not answer, by the kind of the error.
        stages: Histograms by stage.
    """

    ended: dict[str, int]
    failed: dict[str, int]
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
            found |= _SCALE.increments(stage, took_ms[stage] / 1000)
    return found


def count(pipe: Pipeline, took_ms: Mapping[str, float], state: str) -> None:
    """Counts a search that ended, as part of a pipeline."""
    add(pipe, KEY, increments(took_ms, state))


def count_failure(client: redis.Redis, reason: str) -> None:
    """Counts why a worker could not answer a search.

    Args:
        client: Redis.
        reason: The kind of the error: one of a few, and nothing that a client has sent.
    """
    # A number for a diagram is not worth a search without an answer.
    with suppress(redis.RedisError):
        client.hincrby(KEY, f"{_FAILED}{reason}", 1)


def read(client: redis.Redis) -> QueryMetrics:
    """Everything counted so far; zeros for what has never happened."""
    stored = cast("dict[bytes, bytes]", client.hgetall(KEY))
    values = {name.decode(): int(value) for name, value in stored.items()}
    return QueryMetrics(
        ended={state: values.get(f"ended:{state}", 0) for state in STATES},
        failed={n.removeprefix(_FAILED): value for n, value in sorted(values.items()) if n.startswith(_FAILED)},
        stages={stage: _SCALE.histogram(stage, values) for stage in MEASURED},
    )
