from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis

from common.cores import CorePool
from common.presence import PresenceReporter, live_workers
from common.redis_client import key
from common.settings import Settings
from tests.unit.helpers import python_json
from workers import threads
from workers.threads import VARIABLES, limit_libraries, share_of_cores


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 12 cores, where nobody waits for others."""
    monkeypatch.setattr("common.presence.core_pools", lambda: [CorePool("machine", 12)])
    monkeypatch.setattr(threads, "core_pools", lambda: [CorePool("machine", 12)])
    monkeypatch.setattr(threads, "available_cores", lambda: 12)
    monkeypatch.setattr(threads, "SETTLE_SECONDS", 0.0)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings that leave the number of threads to the product."""
    return settings.model_copy(update={"threads": 0})


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def add_worker(client: redis.Redis, *queues: str, host: str = "elsewhere", pid: int = 1, **fields: object) -> None:
    """Another worker of the same machine, in a container unless `host` says otherwise."""
    mine = PresenceReporter(client, list(queues), lambda: {"state": "idle"})
    mine.report()
    (record,) = (worker for worker in live_workers(client) if worker.name == mine.name)
    other = record.model_copy(update={"name": f"{queues}@{host}:{pid}", "host": host, "pid": pid, **fields})
    client.set(key("worker", other.name), other.model_dump_json(), ex=60)
    client.delete(key("worker", mine.name))


def share(client: redis.Redis, settings: Settings, *queues: str) -> int:
    presence = PresenceReporter(client, list(queues), lambda: {"state": "loading"})
    try:
        return share_of_cores(settings, client, presence)
    finally:
        with suppress(redis.RedisError):
            presence.stop()


def test_workers_of_one_role_divide_the_cores(client: redis.Redis, settings: Settings) -> None:
    assert share(client, settings, "bulk") == 12
    add_worker(client, "bulk", host="a")
    add_worker(client, "maintenance", "bulk", host="b")
    add_worker(client, "maintenance", host="c")
    assert share(client, settings, "bulk") == 4
    assert share(client, settings, "maintenance", "bulk") == 4
    assert share(client, settings, "query") == 12


def test_workers_that_take_no_cores_of_this_machine_do_not_count(client: redis.Redis, settings: Settings) -> None:
    add_worker(client, "bulk", host="a", cpu_pools=["another machine"])
    add_worker(client, "bulk", host="b", cpu_pools=[])  # an older version
    add_worker(client, "bulk", host="c", state="waiting")
    assert share(client, settings, "bulk") == 12


def test_a_worker_that_died_a_moment_ago_does_not_count(client: redis.Redis, settings: Settings) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    host = os.uname().nodename
    add_worker(client, "bulk", host=host, pid=gone.pid)
    assert share(client, settings, "bulk") == 12
    add_worker(client, "bulk", host=host, pid=os.getppid())
    assert share(client, settings, "bulk") == 6


def test_a_worker_has_reported_before_it_looks_for_others(client: redis.Redis, settings: Settings) -> None:
    presence = PresenceReporter(client, ["bulk"], lambda: {"state": "loading"})
    assert share_of_cores(settings, client, presence) == 12
    (worker,) = live_workers(client)
    assert (worker.state, worker.cpu_pools) == ("loading", ["machine"])


def test_the_processes_of_one_worker_divide(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESEARCH_WORKER_PROCESSES", "3")
    assert share(client, settings, "bulk") == 4


def test_the_setting_wins(client: redis.Redis, settings: Settings) -> None:
    assert share(client, settings.model_copy(update={"threads": 7}), "bulk") == 7


def test_without_redis_a_worker_knows_of_no_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "REDIS_ATTEMPTS", 1)
    with redis.Redis.from_url("unix:///nowhere.sock") as away:
        assert share(away, settings, "bulk") == 12
    assert "Redis is away" in caplog.text


def test_libraries_are_limited_except_where_the_user_has(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESEARCH_WORKER_PROCESSES", "3")
    environ = {"OMP_NUM_THREADS": "9"}
    limit_libraries(settings, environ)
    assert environ == {"OMP_NUM_THREADS": "9"} | dict.fromkeys(VARIABLES[1:], "4")
    environ = {}
    limit_libraries(settings.model_copy(update={"threads": 2}), environ)
    assert environ == dict.fromkeys(VARIABLES, "2")


def test_the_limit_is_set_before_numpy_is_imported() -> None:
    code = """
import json, os, sys
import workers.app
early = "numpy" in sys.modules
import numpy
ones = numpy.ones((500, 500), numpy.float32)
ones @ ones
print(json.dumps([early, len(os.listdir("/proc/self/task"))]))
"""
    # One thread: on a machine of several cores NumPy has more of its own accord.
    assert python_json(code, IMAGESEARCH_THREADS="1") == [False, 1]
