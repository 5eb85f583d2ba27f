"""Programs that the command line becomes: workers and the web tier."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from common.cli.app import run
from common.settings import Settings


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """Records what the process would have become."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    def execve(_: str, command: list[str], environment: dict[str, str]) -> None:
        calls.append((command, environment))

    monkeypatch.setattr("common.cli.services.os.execve", execve)
    return calls


def test_a_query_worker_has_threads(settings: Settings, become: list[Any]) -> None:
    assert run(["worker", "--queues", "query", "--wait-for-weights"]) == 0
    command, environment = become[0]
    assert command[:7] == [sys.executable, "-m", "celery", "-A", "workers.app", "--quiet", "worker"]
    assert command[command.index("--pool") + 1 : command.index("--pool") + 4] == ["threads", "--concurrency", "32"]
    assert command[command.index("--queues") + 1] == environment["IMAGESEARCH_WORKER_QUEUES"] == "query"
    assert environment["IMAGESEARCH_WORKER_WAIT_FOR_WEIGHTS"] == "1"
    assert environment["IMAGESEARCH_REDIS_URL"] == settings.redis_url
    assert "IMAGESEARCH_WORKER_PROCESSES" not in environment


def test_a_bulk_worker_has_processes(become: list[Any]) -> None:
    assert run(["worker", "--queues", "bulk,maintenance", "--concurrency", "2"]) == 0
    command, environment = become[0]
    assert command[command.index("--pool") + 1 : command.index("--pool") + 4] == ["prefork", "--concurrency", "2"]
    assert environment["IMAGESEARCH_WORKER_QUEUES"] == "bulk,maintenance"
    assert "IMAGESEARCH_WORKER_WAIT_FOR_WEIGHTS" not in environment
    assert environment["IMAGESEARCH_WORKER_PROCESSES"] == "2"


@pytest.mark.parametrize("queues", ["query,bulk", "celery", "", "maintenance,query"])
def test_queues_that_do_not_go(queues: str, become: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["worker", "--queues", queues]) == 2
    assert "--queues" in capsys.readouterr().err
    assert become == []


def test_web_becomes_the_web_tier(become: list[Any]) -> None:
    assert run(["web", "--port", "8123"]) == 0
    assert become[0][0] == [sys.executable, "-m", "web", "--host", "127.0.0.1", "--port", "8123"]
