"""The health checks of the containers, against real HTTP servers and a real Redis."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import redis

from common.healthcheck import LOADING_SECONDS, main, web_health
from common.messages import WorkerInfo
from common.redis_client import key

HERE = socket.gethostname()


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers every GET with a status; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def redis_here(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.setenv("IMAGESEARCH_REDIS_URL", redis_url)
    with redis.Redis.from_url(redis_url) as client:
        yield client


def report(client: redis.Redis, *, host: str = HERE, pid: int = 1, **fields: Any) -> None:
    """What a worker process would report."""
    record = {"name": f"query@{host}:{pid}", "host": host, "pid": pid, "queues": ["query"]}
    info = WorkerInfo.model_validate(record | {"last_seen": datetime.now(timezone.utc)} | fields)
    client.set(key("worker", info.name), info.model_dump_json())


def test_a_web_tier_that_answers_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(200) as port:
        assert main(["web", str(port)]) == 0
    assert capsys.readouterr().out == "ok\n"


def test_a_web_tier_that_answers_an_error_is_not_well() -> None:
    with answering(500) as port:
        assert web_health(port) == (False, "/healthz answers 500")


def test_a_web_tier_that_does_not_answer_is_not_well() -> None:
    with answering(200) as port:
        pass
    well, line = web_health(port)
    assert not well
    assert f"no answer from port {port}" in line


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_worker_that_takes_tasks_is_well(state: str, redis_here: redis.Redis) -> None:
    report(redis_here, state=state)
    assert (main(["worker"]), main(["ready"])) == (0, 0)


def test_a_worker_that_waits_for_weights_says_so(redis_here: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    report(redis_here, state="waiting", detail="The weights\nare not available.")
    assert main(["worker"]) == 1
    assert capsys.readouterr().out == "waiting: The weights are not available.\n"


def test_a_worker_that_loads_is_well_but_not_ready(redis_here: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(timezone.utc)
    report(redis_here, state="loading", detail="preparing", started_at=now - timedelta(seconds=42), last_seen=now)
    assert (main(["worker"]), main(["ready"])) == (0, 1)
    assert capsys.readouterr().out == "loading: preparing (42 s so far)\n" * 2


def test_a_worker_that_loads_for_ever_is_not_well(redis_here: redis.Redis) -> None:
    now = datetime.now(timezone.utc)
    report(redis_here, state="loading", started_at=now - timedelta(seconds=LOADING_SECONDS), last_seen=now)
    assert main(["worker"]) == 1


def test_one_process_at_work_is_enough(redis_here: redis.Redis) -> None:
    report(redis_here, state="idle", pid=7)
    report(redis_here, state="waiting", pid=3)
    assert main(["worker"]) == 0


def test_the_worker_of_another_host_does_not_count(redis_here: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    report(redis_here, state="idle", host="elsewhere")
    assert main(["worker"]) == 1
    assert capsys.readouterr().out.startswith("no worker process reports")


def test_an_unreachable_redis_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGESEARCH_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    assert main(["worker"]) == 1
    printed = capsys.readouterr().out
    assert "redis://127.0.0.1:1/0" in printed
    assert "secret" not in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["redis"], ["web", "http"], ["worker", "more"], ["ready", "more"]])
def test_wrong_use_is_told_apart_from_a_sick_service(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_the_check_of_the_web_tier_imports_no_library() -> None:
    code = "import sys, common.healthcheck; sys.exit(bool({'redis', 'pydantic', 'celery', 'flask'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
