"""How many viewers of the live events one web process holds, what they cost, and how soon all of them see a change.

The peer: the same number of pages that ask for both documents once a second, as many requests as that would be, and
how many of them one web process answers.

    python -m benchmarks.bench_viewers [--viewers 2000]
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import redis

from benchmarks.event_stream import PATH
from benchmarks.measuring import Noise, field_mb, machine, percentile
from benchmarks.system import running_redis, running_web, wait_until, web_processes
from common.messages import WorkerInfo
from common.progress import JobBoard
from common.redis_client import key
from common.settings import Settings

JOBS = 20
WORKERS = 4
CHANGES = 15
# What a page asks for.
DOCUMENTS = ("/api/v1/status", "/api/v1/index-jobs")
_TIMEOUT = 60.0


class Viewers:
    """Many viewers in one thread; each reads whatever comes.

    Args:
        address: That of the web tier.
        count: How many.
    """

    def __init__(self, address: str, count: int) -> None:
        host, port = address.removeprefix("http://").split(":")
        request = f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._selector = selectors.DefaultSelector()
        self._sockets = []
        for _ in range(count):
            connection = socket.create_connection((host, int(port)), timeout=_TIMEOUT)
            connection.sendall(request)
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, bytearray())
            self._sockets.append(connection)

    def wait_for(self, text: bytes) -> list[float]:
        """Seconds from now until each of them has read a text.

        Raises:
            ConnectionError: One of them was left out.
            TimeoutError: It did not come to all in time.
        """
        began = time.perf_counter()
        seconds: dict[int, float] = {}
        while len(seconds) < len(self._sockets):
            if time.perf_counter() - began > _TIMEOUT:
                raise TimeoutError(f"{len(seconds)} of {len(self._sockets)} viewers have got it")
            for selected, _ in self._selector.select(1.0):
                data = selected.fileobj.recv(1 << 18)  # type: ignore[union-attr]
                if not data:
                    raise ConnectionError("the server has closed a viewer's connection")
                tail: bytearray = selected.data
                tail += data
                if text in tail:
                    seconds.setdefault(selected.fd, time.perf_counter() - began)
                del tail[: -len(text) + 1]  # it may come in two parts
        return list(seconds.values())

    def close(self) -> None:
        """Ends all connections."""
        self._selector.close()
        for connection in self._sockets:
            connection.close()


class WebProcess:
    """The process that serves: its memory and its processor time."""

    def __init__(self) -> None:
        children = web_processes()
        self._process = children[-1]

    def rss_mb(self) -> float:
        """Its resident memory now."""
        return field_mb(Path(f"/proc/{self._process.pid}/status").read_text(), "VmRSS")

    def cpu_seconds(self) -> float:
        """The processor time that it has taken so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def files(self) -> int:
        """How many files it has open."""
        return int(self._process.num_fds())

    def busy_cores(self, seconds: float) -> float:
        """How much of a core it takes from now on."""
        before = self.cpu_seconds()
        time.sleep(seconds)
        return round((self.cpu_seconds() - before) / seconds, 4)


def fill(client: redis.Redis, board: JobBoard) -> str:
    """Jobs and workers as a busy installation has them. Gives the id of a job that runs."""
    for number in range(JOBS):
        job = board.create(f"photos/{number}")
        plan = board.start_plan(job.id)
        board.add(job.id, {"found": 10_000, "total": 10_000}, plan=plan)
    for number in range(WORKERS):
        info = WorkerInfo(
            name=f"bulk@host:{number}", host="host", pid=number, queues=["bulk"], state="busy",
            last_seen=datetime.now(timezone.utc),
        )  # fmt: skip
        client.set(key("worker", info.name), info.model_dump_json())
    return job.id


@contextmanager
def progressing(board: JobBoard, job_id: str) -> Iterator[None]:
    """A job that gets on twice a second: every reading brings a change."""
    done = threading.Event()

    def get_on() -> None:
        files = 0
        while not done.wait(0.5):
            files += 1
            board.report_partial(job_id, "001-000001", files)

    thread = threading.Thread(target=get_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def answer_ms(address: str, count: int = 200) -> dict[str, float]:
    """How long ordinary requests take, one after another."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=_TIMEOUT)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        _get(connection, DOCUMENTS[0])
        times.append((time.perf_counter() - began) * 1000)
    return {f"p{percent}": round(percentile(times, percent), 2) for percent in (50, 95)}


def dropped_after(address: str, web: WebProcess) -> float:
    """Seconds until the server lets go of a viewer that never reads."""
    host, port = address.removeprefix("http://").split(":")
    files = web.files()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        began = time.perf_counter()
        wait_until(lambda: web.files() > files, "it is connected", every=0.01)
        wait_until(lambda: web.files() <= files, "it is dropped", 300, every=0.1)
        return round(time.perf_counter() - began, 1)


def measure_viewers(address: str, web: WebProcess, board: JobBoard, job_id: str, count: int) -> dict[str, Any]:
    """The product: all viewers at once."""
    answers = {"without_viewers": answer_ms(address)}
    memory, kernel = web.rss_mb(), _kernel_mb()
    began = time.perf_counter()
    viewers = Viewers(address, count)
    viewers.wait_for(b"event: jobs")
    connected = time.perf_counter() - began
    time.sleep(2.0)
    after, kernel_after = web.rss_mb(), _kernel_mb()
    idle = web.busy_cores(10.0)
    last, spans = [], []
    for number in range(CHANGES):
        time.sleep(number * 0.618 % 1)  # at any time between two readings
        seconds = viewers.wait_for(board.create("photos/new").id.encode())
        last.append(max(seconds) * 1000)
        spans.append((max(seconds) - min(seconds)) * 1000)
    keep_reading = threading.Thread(target=_read_until, args=(viewers, b"photos/the-last"))
    keep_reading.start()
    with progressing(board, job_id):
        busy = web.busy_cores(10.0)
        answers["with_viewers"] = answer_ms(address)
    board.create("photos/the-last")
    keep_reading.join()
    most = web.rss_mb()
    viewers.close()
    return {
        "viewers_held": count,
        "connected_seconds": round(connected, 2),
        "until_all_have_a_change_ms": {"p50": round(percentile(last, 50), 1), "highest": round(max(last), 1)},
        "from_the_first_to_the_last_ms": {"p50": round(percentile(spans, 50), 1), "highest": round(max(spans), 1)},
        "rss_mb": {"before": round(memory, 1), "with_viewers": round(after, 1), "after_the_changes": round(most, 1)},
        "rss_kb_a_viewer": round((most - memory) * 1e3 / count, 2),
        "kernel_mb": {"before": kernel, "with_viewers": kernel_after},
        "busy_cores": {"nothing_changes": idle, "a_change_each_second": busy},
        "status_request_ms": answers,
    }


def measure_polling(address: str, web: WebProcess, count: int, seconds: float = 10.0) -> dict[str, Any]:
    """The peer: how many such requests the same process answers, and how many would be needed."""
    end = time.perf_counter() + seconds

    def keep_asking(_: int) -> int:
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=_TIMEOUT)
        answered = 0
        while time.perf_counter() < end:
            _get(connection, DOCUMENTS[answered % len(DOCUMENTS)])
            answered += 1
        return answered

    before = web.cpu_seconds()
    with ThreadPoolExecutor(16) as pool:
        answered = sum(pool.map(keep_asking, range(16)))
    core_ms = (web.cpu_seconds() - before) / answered * 1000
    needed = count * len(DOCUMENTS)
    return {
        "requests_a_second_needed": needed,
        "requests_a_second_answered_at_most": round(answered / seconds),
        "core_ms_a_request": round(core_ms, 2),
        "cores_needed": round(needed * core_ms / 1000, 1),
    }


def _read_until(viewers: Viewers, text: bytes) -> None:
    viewers.wait_for(text)


def _get(connection: http.client.HTTPConnection, path: str) -> None:
    connection.request("GET", path)
    with connection.getresponse() as response:
        response.read()
        if response.status != 200:
            raise ConnectionError(f"{path}: {response.status}")


def _kernel_mb() -> float:
    """What the kernel holds for all TCP connections of this machine."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return round(int(line.split()[-1]) * resource.getpagesize() / 1e6, 1)


def main() -> None:
    """Measures, and prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=2000)
    count: int = parser.parse_args().viewers
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    noise = Noise()
    with tempfile.TemporaryDirectory() as name, running_redis() as url, redis.Redis.from_url(url) as client:
        settings = Settings(redis_url=url, data_dir=Path(name), weights="untrained")
        board = JobBoard(client)
        job_id = fill(client, board)
        with running_web(settings) as address:
            web = WebProcess()
            figures = measure_viewers(address, web, board, job_id, count)
            wait_until(lambda: web.busy_cores(1.0) < 0.01, "the thread of the viewers has ended", 60)
            with progressing(board, job_id):
                figures["one_that_never_reads_is_dropped_after_seconds"] = dropped_after(address, web)
            polling = measure_polling(address, web, count)
    held = figures["viewers_held"]
    print(f"One web process held {held} viewers.", file=sys.stderr)
    ratio = polling["cores_needed"] / max(0.001, figures["busy_cores"]["a_change_each_second"])
    document = {"times_the_cores_of_events_for_polling": round(ratio, 1), "events": figures, "polling": polling}
    print(json.dumps({**document, "noise": noise.report(), "machine": machine()}, indent=1))


if __name__ == "__main__":
    main()
