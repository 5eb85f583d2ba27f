from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from common import presence
from common.celery_app import QUEUES, make_celery
from common.messages import QueueLengths
from common.presence import PresenceReporter, live_workers, queue_lengths
from common.settings import Settings
from tests.redis_troubles import full


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_a_worker_reports_what_it_does(client: redis.Redis) -> None:
    facts: dict[str, Any] = {"state": "loading"}
    reporter = PresenceReporter(client, ["query", "bulk"], lambda: facts)
    reporter.report()
    (worker,) = live_workers(client)
    assert (worker.name, worker.queues, worker.state) == (reporter.name, ["query", "bulk"], "loading")
    facts |= {"state": "idle", "model": "fake/statistics", "images_per_second": 12.5}
    reporter.report()
    (worker,) = live_workers(client)
    assert (worker.state, worker.model, worker.images_per_second) == ("idle", "fake/statistics", 12.5)


def test_a_worker_that_stops_is_gone_at_once(client: redis.Redis) -> None:
    reported = threading.Event()

    def facts() -> dict[str, Any]:
        reported.set()
        return {"state": "idle"}

    reporter = PresenceReporter(client, ["bulk"], facts)
    reporter.start()
    assert reported.wait(10)
    reporter.stop()
    assert live_workers(client) == []
    assert not reporter._thread.is_alive()


def test_a_worker_that_dies_disappears_by_itself(client: redis.Redis) -> None:
    PresenceReporter(client, ["bulk"], lambda: {"state": "idle"}).report()
    (name,) = client.keys("imagesearch:worker:*")
    assert 0 < client.ttl(name) <= presence.EXPIRY_SECONDS
    assert presence.REPORT_SECONDS * 2 < presence.EXPIRY_SECONDS


def test_workers_are_listed_by_name(client: redis.Redis) -> None:
    for queue in ("query", "bulk", "maintenance"):
        PresenceReporter(client, [queue], lambda: {"state": "idle"}).report()
    assert [worker.queues for worker in live_workers(client)] == [["bulk"], ["maintenance"], ["query"]]


def test_a_reporter_survives_that_redis_is_away() -> None:
    failed = threading.Event()

    class Away(redis.Redis):
        def set(self, *_: Any, **__: Any) -> Any:
            failed.set()
            raise redis.ConnectionError("away")

    reporter = PresenceReporter(Away(), ["bulk"], lambda: {"state": "idle"})
    reporter.start()
    assert failed.wait(10)
    assert reporter._thread.is_alive()
    reporter._stop.set()
    reporter._thread.join(10)
    assert not reporter._thread.is_alive()


def test_waiting_tasks_are_counted_by_queue(settings: Settings, client: redis.Redis) -> None:
    assert queue_lengths(client) == QueueLengths()
    with make_celery(settings) as app:
        for number, queue in enumerate(QUEUES):
            for _ in range(number + 1):
                app.send_task("nothing", queue=queue)
    assert queue_lengths(client) == QueueLengths(query=1, bulk=2, maintenance=3)


def test_a_worker_stays_alive_while_redis_has_no_memory_for_its_record(client: redis.Redis) -> None:
    reporter = PresenceReporter(client, ["bulk"], lambda: {"state": "idle"})
    reporter.report()
    (name,) = client.keys("imagesearch:worker:*")
    client.expire(name, 2)
    with full(client):
        with pytest.raises(redis.RedisError):
            reporter.report()
        assert client.ttl(name) > 2
        assert [worker.queues for worker in live_workers(client)] == [["bulk"]]
