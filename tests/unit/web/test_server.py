"""The web tier as it is served: in processes of its own."""

from __future__ import annotations

import http.client
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from benchmarks.system import running_web, wait_until, web_processes
from common.redis_client import key
from common.search_interest import LEAVING_SECONDS
from common.settings import Settings
from tests.unit.web.building import answer_search, index_files, picture_bytes, search_board

MOST_BYTES = 120 * 2**20
_START = b'--x\r\nContent-Disposition: form-data; name="image"; filename="q.jpg"\r\n\r\n'
_FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def call(connection: http.client.HTTPConnection, method: str, path: str, *arguments: Any) -> Any:
    """One request on a connection that is kept. Gives the JSON of the answer."""
    connection.request(method, path, *arguments)
    with connection.getresponse() as response:
        body = response.read()
        assert response.status in {200, 202}, body
    return json.loads(body)


def peak_bytes(process: psutil.Process) -> int:
    """The most memory that a process ever had."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_searches_from_many_threads_keep_the_server_small(settings: Settings, library: Path) -> None:
    index_files(settings, library, [f"{number}.jpg" for number in range(30)])
    upload = _START + picture_bytes(size=(640, 480)) + b"\r\n--x--\r\n"

    def search(address: str) -> int:
        connection = http.client.HTTPConnection(address)
        found = 0
        for _ in range(10):
            accepted = call(connection, "POST", "/api/v1/searches", upload, _FORM)
            answer_search(settings, accepted["id"])
            found += len(call(connection, "GET", f"{accepted['url']}?wait=20")["results"])
        connection.close()
        return found

    with running_web(settings) as address, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(search, [address.removeprefix("http://")] * 8))
        peaks = [peak_bytes(server) for server in web_processes()]
    assert found == [300] * 8
    assert len(peaks) == 2  # the one that is in charge, and the one that serves
    assert max(peaks) < MOST_BYTES


def test_a_client_that_hangs_up_waits_no_more(settings: Settings) -> None:
    upload = _START + picture_bytes() + b"\r\n--x--\r\n"
    with running_web(settings) as address, redis.Redis.from_url(settings.redis_url) as client:
        host = address.removeprefix("http://")
        waiting = http.client.HTTPConnection(host)
        accepted = call(waiting, "POST", "/api/v1/searches", upload, _FORM)
        wanted = key("search", accepted["id"], "wanted")
        waiting.request("GET", f"{accepted['url']}?wait=30")
        wait_until(lambda: client.info("clients")["blocked_clients"] > 0, "the server waits for the answer")
        assert client.ttl(wanted) > LEAVING_SECONDS
        waiting.close()
        wait_until(lambda: not client.exists(wanted), "nobody wants the answer any more")
        assert search_board(settings).take(accepted["id"]) is None
