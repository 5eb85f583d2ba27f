"""Live events through the API: once through a client in the process, and as the server serves them."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benchmarks.event_stream import PATH, EventStream
from benchmarks.system import running_web, wait_until, web_processes
from common.progress import JobBoard
from common.settings import Settings
from tests.unit.helpers import python_json
from tests.unit.web.building import index_files, report_worker
from web.live import MAX_VIEWERS, hub_of

Check = Callable[[TestResponse, int], str]
VIEWERS = 300


@pytest.fixture
def board(settings: Settings) -> Iterator[JobBoard]:
    """The jobs as the workers see them."""
    with redis.Redis.from_url(settings.redis_url) as client:
        yield JobBoard(client)


def events_of(response: TestResponse) -> dict[str, object]:
    """The events of a whole answer."""
    first, *blocks = response.get_data(as_text=True).removesuffix("\n\n").split("\n\n")
    assert first == "retry: 2000"
    pairs = [block.split("\n") for block in blocks]
    return {name.removeprefix("event: "): json.loads(data.removeprefix("data: ")) for name, data in pairs}


# --- without a server that gives its connections away ------------------------------------------------------------


def test_where_nobody_can_stay_the_documents_come_once(
    client: FlaskClient, settings: Settings, library: Path, board: JobBoard
) -> None:
    index_files(settings, library, ["a.jpg"])
    report_worker(settings)
    board.create("photos/ä 🐈\n")
    response = client.get(PATH)
    assert response.status_code == 200
    assert response.mimetype == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    events = events_of(response)
    assert events == {
        "status": client.get("/api/v1/status").get_json(),
        "jobs": client.get("/api/v1/index-jobs").get_json(),
    }
    assert events["status"]["images"] == 1  # type: ignore[index]
    assert events["jobs"][0]["folder"] == "photos/ä 🐈\n"  # type: ignore[index]


def test_a_head_has_no_events(client: FlaskClient) -> None:
    response = client.head(PATH)
    assert (response.status_code, response.data, response.mimetype) == (200, b"", "text/event-stream")


def test_without_redis_the_problem_is_told(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(redis_url="redis://127.0.0.1:1/0")
    assert events_of(client.get(PATH)) == {"problem": client.get("/api/v1/index-jobs").get_json()}


def test_when_there_is_no_room_one_is_asked_to_come_back(client: FlaskClient, check_problem: Check) -> None:
    hub_of(client.application).close()
    response = client.get(PATH)
    assert "every few seconds" in check_problem(response, 503)
    assert response.headers["Retry-After"] == "5"


def test_viewers_leave_files_for_everybody_else(
    make_client: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 1000))
    assert hub_of(make_client().application).limit == 500
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert hub_of(make_client().application).limit == MAX_VIEWERS


def test_the_server_may_open_files_for_all_viewers() -> None:
    code = """
import json, resource, sys
from web.server import _allow_files
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
found = []
for soft in (256, 1024):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    _allow_files()
    found.append(resource.getrlimit(resource.RLIMIT_NOFILE))
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))
_allow_files()
print(json.dumps([hard, *found, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""
    hard, *found, narrow = python_json(code)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    assert found == [[wanted, hard]] * 2
    assert narrow == [512, 512]


# --- as it is served ---------------------------------------------------------------------------------------------


def serving_process() -> psutil.Process:
    """The process in charge of the server that this test has started."""
    found = web_processes(recursive=False)
    assert len(found) == 1
    return found[0]


def status(address: str) -> int:
    """The answer to an ordinary request, on a connection of its own."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    connection.request("GET", "/api/v1/status")
    with connection.getresponse() as response:
        response.read()
    connection.close()
    return response.status


def test_hundreds_watch_while_the_server_answers_and_all_see_the_change(settings: Settings, board: JobBoard) -> None:
    with running_web(settings) as address, ExitStack() as stack:
        viewers = [stack.enter_context(EventStream(address)) for _ in range(VIEWERS)]
        for viewer in viewers:
            assert viewer.response.status == 200
            assert viewer.response.headers["Content-Type"].startswith("text/event-stream")
            assert viewer.response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert viewer.wait_for("status")["images"] == 0
            assert viewer.wait_for("jobs") == []
        # Nine times as many as the server has threads: nobody holds one.
        assert [status(address) for _ in range(50)] == [200] * 50
        for viewer in viewers[:100]:
            viewer.close()
        job = board.create("photos")
        for viewer in viewers[100:]:
            assert [(job["id"], job["state"]) for job in viewer.wait_for("jobs")] == [(job.id, "scanning")]
        board.control(job.id, "cancelled")
        for viewer in viewers[100:]:
            assert viewer.wait_for("jobs")[0]["state"] == "cancelled"


def test_the_server_stops_at_once_with_viewers_connected(settings: Settings) -> None:
    with running_web(settings) as address, ExitStack() as stack:
        viewers = [stack.enter_context(EventStream(address)) for _ in range(40)]
        for viewer in viewers:
            viewer.wait_for("jobs")
        server = serving_process()
        server.terminate()
        began = time.monotonic()
        for viewer in viewers:
            while viewer.next() is not None:  # a whole answer: a broken one would raise
                pass
        server.wait(timeout=20)
        # Far less than the time that requests may take to their end.
        assert time.monotonic() - began < 20


def test_a_client_of_the_old_protocol_can_watch(settings: Settings, board: JobBoard) -> None:
    with running_web(settings) as address:
        host, port = address.removeprefix("http://").split(":")
        with (
            socket.create_connection((host, int(port)), timeout=20) as connection,
            connection.makefile("rb") as stream,
        ):
            connection.sendall(f"GET {PATH} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            head = b"".join(iter(stream.readline, b"\r\n"))
            assert b"200 OK" in head.splitlines()[0]
            assert b"chunked" not in head.lower()
            assert stream.readline() == b"retry: 2000\n"
            names = [line for _, line in zip(range(7), stream, strict=False) if line.startswith(b"event")]
            assert names == [b"event: status\n", b"event: jobs\n"]
            board.create("photos")
            wait_until(lambda: stream.readline() == b"event: jobs\n", "the change comes", 20)
            serving_process().terminate()
            assert stream.read().endswith(b"\n\n")
