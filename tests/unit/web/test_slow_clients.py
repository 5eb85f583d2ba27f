"""Clients that send or take slowly, or nothing at all: everybody else is answered."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from benchmarks.system import running_web, wait_until
from common.settings import Settings
from tests.unit.web.building import index_files, picture_bytes
from web.bodies import MOST_FILES
from web.server import THREADS
from web.slots import Slots

HEAD = b"POST /api/v1/searches HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
SECONDS = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[tuple[str, int]]:
    """A server that is never asked for a worker. Gives host and port."""
    settings = Settings(redis_url=redis_server, data_dir=tmp_path_factory.mktemp("slow") / "data")
    with running_web(settings) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        yield host, int(port)


def connect(server: tuple[str, int], data: bytes = b"") -> socket.socket:
    client = socket.create_connection(server, SECONDS)
    client.sendall(data)
    return client


def assert_it_answers(server: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*server, timeout=SECONDS)
    connection.request("GET", "/api/v1/status")
    with closing(connection), connection.getresponse() as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", HEAD + b"Content-Length: 1000\r\n\r\n--x",
     HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\n--x"],
    ids=["nothing", "half a head", "half a body", "half a chunk"],
)  # fmt: skip
def test_more_slow_clients_than_threads_leave_room_for_others(server: tuple[str, int], sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(THREADS + 10):
            stack.enter_context(connect(server, sent))
        time.sleep(0.3)  # until all have come in
        assert_it_answers(server)


def test_clients_that_do_not_hang_up_hold_up_nobody(server: tuple[str, int]) -> None:
    with ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(connect(server, b"GET /healthz HTTP/1.0\r\n\r\n"))
        while client.recv(4096):
            pass
        assert_it_answers(server)  # not after two seconds for each of them


def test_a_head_may_come_in_pieces(server: tuple[str, int]) -> None:
    with connect(server) as client:
        for piece in (b"GET /heal", b"thz HTTP/1.1\r", b"\nHost: x\r\n", b"X-A: b\r\n\r", b"\n"):
            client.sendall(piece)
            time.sleep(0.05)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        # And the next one on the same connection, with the beginning of a third.
        wait_until(lambda: b'"ok"' in client.recv(4096), "the answer", SECONDS)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HT")
        assert client.recv(15) == b"HTTP/1.1 200 OK"


def test_requests_may_follow_each_other_at_once(server: tuple[str, int]) -> None:
    with connect(server, 3 * b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 3:
            received += client.recv(4096)


@pytest.mark.parametrize("end", [b"", b"X"], ids=["closed", "too large"])
def test_a_head_without_an_end_is_dropped(server: tuple[str, int], end: bytes) -> None:
    with connect(server, b"GET / HTTP/1.1\r\nX: ") as client:
        if end:
            with suppress(ConnectionError):
                client.sendall(end * 40_000)
        else:
            client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert client.recv(100)[:12] in {b"", b"HTTP/1.1 431"}
    assert_it_answers(server)


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"5\r\nabcdefgh\r\n", b"-1\r\n", b"5;=\r\nabcde\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nbad trailer\r\n\r\n"],
)
def test_a_broken_chunked_body_is_the_clients_fault(server: tuple[str, int], body: bytes) -> None:
    with connect(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(12) == b"HTTP/1.1 400"


def test_places_are_given_back_when_files_are_sent(settings: Settings, library: Path) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    with running_web(settings) as address:
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=SECONDS)
        etag, statuses = "", []
        for number in range(4 * MOST_FILES):
            method = "HEAD" if number % 4 == 3 else "GET"
            headers = ({}, {"Range": "bytes=0-9"}, {"If-None-Match": etag}, {})[number % 4]
            connection.request(method, f"/api/v1/images/{entry.image_id}/original", headers=headers)
            with connection.getresponse() as response:
                response.read()
                etag = response.headers["ETag"]
                statuses.append(response.status)
        connection.close()
    assert statuses == [200, 206, 304, 200] * MOST_FILES


def test_slow_takers_of_files_leave_room_for_others(settings: Settings, library: Path) -> None:
    (library / "large.bmp").write_bytes(
        picture_bytes(size=(2500, 2000), image_format="BMP")
    )  # 15 MB: more than buffers
    entry = index_files(settings, library, ["large.bmp"])[0]
    request = f"GET /api/v1/images/{entry.image_id}/original HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with running_web(settings) as address, ExitStack() as stack:
        host, _, port = address.removeprefix("http://").partition(":")
        clients = [stack.enter_context(connect((host, int(port)), request)) for _ in range(THREADS + 10)]
        starts = []
        for client in clients[:20]:
            with suppress(TimeoutError):
                client.settimeout(5 if starts.count(b"HTTP/1.1 503") else SECONDS)
                starts.append(client.recv(12))
        assert starts.count(b"HTTP/1.1 200") == MOST_FILES
        assert_it_answers((host, int(port)))


def test_a_place_that_was_held_for_long_goes_to_who_waits() -> None:
    slots = Slots(2, longest=60, fair=0.2, direction=socket.SHUT_RD)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        oldest = slots.take(ours)
        second = slots.take(None)
        assert oldest is not None
        assert second is not None
        third = slots.take(None)  # after a moment
        assert third is not None
        assert (oldest.is_cut, second.is_cut) == (True, False)
        assert ours.recv(1) == b""  # whoever waited for the client goes on
    for slot in (oldest, second, third):
        slots.give_back(slot)
    assert slots.take(None) is not None


def test_a_place_is_given_back_to_who_waits_at_once() -> None:
    slots = Slots(2, longest=60, fair=60, direction=socket.SHUT_RD)
    assert slots.take(None) is not None
    first = slots.take(None)
    assert first is not None
    threading.Timer(0.1, slots.give_back, [first]).start()
    second = slots.take(None)
    assert second is not None
    assert not first.is_cut
    assert slots.take(None) is None


def test_no_place_is_held_for_ever() -> None:
    slots = Slots(1, longest=0.1, fair=60, direction=socket.SHUT_RD)
    slot = slots.take(None)
    assert slot is not None
    wait_until(lambda: slot.is_cut, "its time is over", 20)
