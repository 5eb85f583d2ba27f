from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from common import stage_metrics
from common.stopwatch import STAGES


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def count(client: redis.Redis, took_ms: dict[str, float], state: str = "done") -> None:
    with client.pipeline() as pipe:
        stage_metrics.count(pipe, took_ms, state)
        pipe.execute()


def test_an_emptied_redis_starts_from_zero(client: redis.Redis) -> None:
    count(client, {"embed": 3.0})
    client.flushall()
    metrics = stage_metrics.read(client)
    assert metrics.ended == dict.fromkeys(stage_metrics.STATES, 0)
    assert list(metrics.stages) == [*STAGES, "total"]
    for histogram in metrics.stages.values():
        assert (histogram.count, histogram.seconds) == (0, 0)
        assert set(histogram.buckets.values()) == {0}


def test_a_bucket_holds_all_that_took_at_most_its_bound(client: redis.Redis) -> None:
    for took in (0.0, 1.0, 1.01, 9_999.0, 10_000.0, 1e9):
        count(client, {"embed": took})
    histogram = stage_metrics.read(client).stages["embed"]
    assert list(histogram.buckets) == [
        *("0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10"),
        "+Inf",
    ]
    assert list(histogram.buckets.values()) == [2, *[3] * 11, 5, 6]
    assert histogram.count == 6
    assert histogram.seconds == pytest.approx(0.00201 + 19.999 + 1e6)


def test_only_the_stages_that_there_were_are_counted(client: redis.Redis) -> None:
    count(client, {"queue": 1.0, "unheard of": 1.0})
    count(client, {"queue": 2.0, "rank": 4.0}, "failed")
    metrics = stage_metrics.read(client)
    assert {stage: histogram.count for stage, histogram in metrics.stages.items() if histogram.count} == {
        "queue": 2,
        "rank": 1,
    }
    assert metrics.stages["queue"].seconds == pytest.approx(0.003)
    assert metrics.ended == {**dict.fromkeys(stage_metrics.STATES, 0), "done": 1, "failed": 1}
