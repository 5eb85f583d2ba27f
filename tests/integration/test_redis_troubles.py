"""Redis is full, cannot write, became a replica or hangs, while workers search and index. All goes on afterwards."""

from __future__ import annotations

import io
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benchmarks.system import System, environment, wait_until
from common.cli.app import UNREACHABLE, run
from common.messages import SearchQuery
from common.store import open_store
from tests.integration.conftest import fill
from tests.redis_troubles import full, replica, stopped, unable_to_save
from web import create_app

Trouble = Callable[[redis.Redis], AbstractContextManager[None]]

MANY = 240
# Longer than any answer is waited for, by us and by Celery.
HANGING_SECONDS = 12.0


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    folder = tmp_path_factory.mktemp("pictures") / "many"
    fill(folder, range(MANY))
    return folder


@pytest.fixture
def library(running: System, many: Path) -> Path:
    """The library of the running system, with these pictures."""
    folder = running.settings.library_roots[0].path
    shutil.copytree(many, folder / "many")
    return folder


@pytest.fixture
def server(running: System) -> Iterator[redis.Redis]:
    """The Redis of the running system."""
    with redis.Redis.from_url(running.settings.redis_url) as client:
        yield client


@pytest.fixture
def web(running: System) -> FlaskClient:
    """A client of the web tier of the running system."""
    return create_app(running.settings).test_client()


def search(web: FlaskClient, picture: Path) -> TestResponse:
    return web.post("/api/v1/searches", data={"image": (io.BytesIO(picture.read_bytes()), picture.name)})


def check_refused(response: TestResponse, text: str) -> None:
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert text in response.get_json()["detail"]


@contextmanager
def paused(running: System, queue: str) -> Iterator[None]:
    """The worker of a queue does nothing."""
    group = os.getpgid(next(worker.pid for worker in running.client.workers() if worker.queues == [queue]))
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


@pytest.mark.parametrize(
    ("trouble", "text", "seconds"),
    [
        (full, "Redis has no memory left", 0.0),
        (unable_to_save, "Redis cannot write to its disk", 0.0),
        (replica, "This Redis is a replica", 0.0),
        (stopped, "Redis does not answer", HANGING_SECONDS),
    ],
)
def test_a_job_goes_on_when_the_trouble_is_over(
    running: System, library: Path, server: redis.Redis, web: FlaskClient, trouble: Trouble, text: str, seconds: float
) -> None:
    picture = library / "many" / "0007.jpg"

    def told(log: Path) -> int:
        return log.read_text().count(f"workers.runtime: Redis: {text.removeprefix('Redis ')}")

    logs = {log: told(log) for log in running.logs.glob("worker-*.log")}
    wait_until(lambda: len(running.client.workers()) == 2, "both workers report", 60)
    job = running.client.submit_index_job("photos")
    wait_until(lambda: running.client.job(job.id).done >= 16, "a batch is done", every=0.01)
    with ExitStack() as stack:
        with paused(running, "bulk"):
            assert running.client.job(job.id).done < MANY
            stack.enter_context(trouble(server))
        began = time.monotonic()
        check_refused(search(web, picture), text)
        wait_until(lambda: all(told(log) > count for log, count in logs.items()), "all workers say so", 60)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    assert {log: told(log) - count for log, count in logs.items()} == dict.fromkeys(logs, 1)
    ended = running.wait_for_job(job.id)
    assert (ended.state, ended.found, ended.total, ended.done) == ("done", MANY, MANY, MANY)
    assert (ended.failed, ended.removed, ended.error) == (0, 0, None)
    store = open_store(running.settings)
    store.refresh()
    assert [entry.path for entry in store.catalog.below(None)] == [f"photos/many/{n:04}.jpg" for n in range(MANY)]
    assert running.search(picture.read_bytes(), k=1).results[0].path == "photos/many/0007.jpg"


def test_searches_while_redis_is_full(
    running: System,
    library: Path,
    server: redis.Redis,
    web: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment(running.settings).items():
        monkeypatch.setenv(name, value)
    picture = library / "many" / "0007.jpg"
    assert running.index("photos").done == MANY
    with ExitStack() as trouble:
        with paused(running, "query"):
            waiting, left = (
                running.client.submit_search(SearchQuery(k=1), [picture.read_bytes()]).id for _ in range(2)
            )
            trouble.enter_context(full(server))  # so that not even an answer has room
            check_refused(search(web, picture), "Redis has no memory left")
            assert run(["query", str(picture)]) == UNREACHABLE
            assert "Redis has no memory left" in capfd.readouterr().err
            running.client.withdraw_search(left)
            assert web.get(f"/api/v1/searches/{waiting}").get_json()["state"] == "queued"
        told = running.client.search(waiting, wait_seconds=60)
        assert told.state == "failed"
        assert "Redis had no memory left for its answer" in (told.error or "")
        status = web.get("/api/v1/status").get_json()
        assert {tuple(worker["queues"]) for worker in status["workers"]} == {("query",), ("bulk",)}
    assert running.search(picture.read_bytes(), k=1).results[0].path == "photos/many/0007.jpg"
