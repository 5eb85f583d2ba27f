"""What the soak test counts as wrong."""

from __future__ import annotations

import json
import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks.system import free_port
from tests.chaos import memory
from tests.chaos.load import Load, Outcome, Query, SearchClient, SearchFailed
from tests.chaos.memory import MemoryWatch, Trend
from tests.chaos.soak_report import KILL_SECONDS, Kill, Report, summary


def report(*outcomes: Outcome, trends: tuple[Trend, ...] = ()) -> Report:
    made = Report(30, 400, kills=[Kill("redis", 100.0)], outcomes=list(outcomes), trends=list(trends))
    made.judge()
    return made


def test_only_searches_near_a_kill_may_fail() -> None:
    near = report(Outcome(50, 101, "lost"), Outcome(100 + KILL_SECONDS - 1, 200, "refused"), Outcome(1, 2))
    assert near.problems == []
    figures = near.as_json()
    assert (figures["searches"], figures["failed"], figures["failed_near_kills"]) == (3, 0, 2)
    assert figures["kills"][0]["last_failure_began_after_s"] == KILL_SECONDS - 1
    assert "ok" in summary(figures)
    for outcome in (Outcome(98, 99, "before"), Outcome(100 + KILL_SECONDS + 1, 200, "after")):
        far = report(outcome, Outcome(1, 2))
        assert len(far.problems) == 1
        assert "failed" in summary(far.as_json())


@pytest.mark.parametrize(
    ("seconds", "slope", "flat"), [(1800, 5, True), (1800, 60, False), (1800, -60, True), (300, 6000, None)]
)
def test_a_process_that_grows_is_wrong(seconds: float, slope: float, flat: bool | None) -> None:
    trend = Trend("query 1", 7, seconds, 200.0, slope)
    assert trend.is_flat is flat
    assert bool(report(Outcome(1, 2), trends=(trend,)).problems) is (flat is False)


def test_memory_that_is_taken_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SAMPLE_SECONDS", 0.02)
    watch = MemoryWatch({"this": os.getpid()})
    held = []
    for _ in range(40):
        # Pages of its own: what the process has freed before would be used again, and not show.
        held.append(mmap.mmap(-1, 2**20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        held[-1].write(os.urandom(2**20))
        time.sleep(0.02)
    (trend,) = [trend for trend in watch.stop() if trend.role == "this"]
    assert trend.rise_mb > 10
    assert len(held) == 40


@contextmanager
def server(*answers: tuple[int, object]) -> Iterator[str]:
    """Gives these answers to the requests that come, one after the other, and the last one for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            status, document = left.pop(0) if len(left) > 1 else left[0]
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 503:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_port}"
        finally:
            made.shutdown()
            thread.join()


QUERY = Query(b"{}", "application/json", "right")
TAKEN = (202, {"url": "/api/v1/searches/1"})
RUNNING = (200, {"state": "running"})


def done(content_hash: str) -> tuple[int, object]:
    return 200, {"state": "done", "results": [{"content_hash": content_hash, "path": "p"}]}


def test_a_client_comes_back_and_goes_to_the_server_that_is_there() -> None:
    with server((503, {}), TAKEN, RUNNING, done("right")) as address:
        client = SearchClient([f"http://127.0.0.1:{free_port()}", address])
        client.search(QUERY)
        client.close()
    assert (client.moved, client.put_off) == (1, 1)


def test_what_is_not_the_right_answer_is_an_error() -> None:
    for answer, error in (
        (done("wrong"), "instead of the picture itself"),
        ((200, {"state": "failed", "error": "no worker"}), "no worker"),
        ((500, {}), "500"),
    ):
        # Closed first: the server answers a connection until that ends.
        with (
            server(TAKEN, answer) as address,
            closing(SearchClient([address])) as client,
            pytest.raises(SearchFailed, match=error),
        ):
            client.search(QUERY)
    nobody = Load([f"http://127.0.0.1:{free_port()}"], [QUERY], rate=None, clients=1)
    time.sleep(0.1)
    outcomes = nobody.stop()
    assert outcomes
    assert all("no web process answers" in (outcome.error or "") for outcome in outcomes)
