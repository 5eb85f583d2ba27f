"""The hub of the live events, over real connections."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.system import wait_until
from web.live import Hub
from web.live.broadcast import Pace
from web.live.events import END, HEARTBEAT, Event, Packet
from web.live.handover import is_chunked, take_connection
from web.live.viewer import Viewer

# Nothing by itself but readings, many a second.
FAST = Pace(reading=0.02, repeat=1000, heartbeat=1000, patience=1000)


class Source:
    """What a hub reads: a test sets the events."""

    def __init__(self) -> None:
        self.events: list[Event] = [event("status", 1), event("jobs", 1)]
        self.readings = 0
        self.error: Exception | None = None

    def __call__(self) -> list[Event]:
        self.readings += 1
        if self.error is not None:
            raise self.error
        return list(self.events)

    def wait_for_reading(self) -> None:
        """Waits until it has been read from the beginning once more, and the events of before were sent."""
        until = self.readings + 2
        wait_until(lambda: self.readings >= until, "it is read again", 20)


_sockets: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_sockets() -> Iterator[None]:
    """Keeps both ends of all connections open during a test, and not longer."""
    yield
    while _sockets:
        _sockets.pop().close()


def event(name: str, number: int, key: str | None = None) -> Event:
    return Event.of(name, json.dumps(number), key)


def packets(*events: Event) -> bytes:
    return b"".join(event.packet.plain for event in events)


def connect() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection: the server's and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), timeout=20)
        accepted, _ = server.accept()
    _sockets.extend((accepted, client))
    return accepted, client


def receive(client: socket.socket, expected: bytes) -> None:
    """Reads just as many bytes, and compares."""
    received = b""
    while len(received) < len(expected) and (data := client.recv(len(expected) - len(received))):
        received += data
    assert received == expected


def receive_all(client: socket.socket) -> bytes:
    """Reads to the end."""
    return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def hubs() -> Iterator[list[Hub]]:
    """Hubs that are closed after the test."""
    made: list[Hub] = []
    yield made
    for hub in made:
        hub.close()


@pytest.fixture
def hub(source: Source, hubs: list[Hub]) -> Hub:
    hubs.append(Hub(source, limit=5, pace=FAST))
    return hubs[-1]


def watch(hub: Hub, chunked: bool = False) -> socket.socket:
    """A new viewer. Gives the client's end."""
    server, client = connect()
    hub.add(server, chunked=chunked)
    return client


def live_threads() -> int:
    return sum(thread.name == "live" for thread in threading.enumerate())


def test_a_newcomer_gets_everything_at_once(hub: Hub, source: Source) -> None:
    for _ in range(3):
        receive(watch(hub), packets(*source.events))
    assert (len(hub), live_threads()) == (3, 1)


def test_only_what_changes_is_sent_and_everybody_gets_it(hub: Hub, source: Source) -> None:
    clients = [watch(hub) for _ in range(3)]
    for client in clients:
        receive(client, packets(*source.events))
    source.wait_for_reading()
    for number in (2, 3):
        source.events = [source.events[0], event("jobs", number)]
        for client in clients:
            receive(client, packets(source.events[1]))


def test_a_change_that_is_no_news_waits(source: Source, hubs: list[Hub]) -> None:
    hubs.append(Hub(source, limit=5, pace=FAST))
    source.events = [event("status", 1, "same")]
    client = watch(hubs[-1])
    receive(client, packets(*source.events))
    source.events = [event("status", 2, "same")]
    source.wait_for_reading()
    source.events = [event("status", 3, "other")]
    receive(client, packets(event("status", 3)))


def test_what_is_no_news_is_sent_after_a_while(source: Source, hubs: list[Hub]) -> None:
    hubs.append(Hub(source, limit=5, pace=Pace(reading=0.02, repeat=0.05, heartbeat=1000)))
    source.events = [event("status", 1, "same")]
    client = watch(hubs[-1])
    receive(client, packets(*source.events))
    source.events = [event("status", 2, "same")]
    receive(client, packets(*source.events))


def test_a_problem_is_told_and_what_comes_after_it(hub: Hub, source: Source) -> None:
    events = source.events
    client = watch(hub)
    receive(client, packets(*events))
    source.events = [event("problem", 503)]
    receive(client, packets(*source.events))
    receive(watch(hub), packets(*source.events))
    source.events = events
    receive(client, packets(*events))


def test_a_quiet_connection_gets_a_comment_now_and_then(source: Source, hubs: list[Hub]) -> None:
    hubs.append(Hub(source, limit=5, pace=Pace(heartbeat=0.02)))
    receive(watch(hubs[-1]), packets(*source.events) + HEARTBEAT.plain * 3)


def test_a_chunked_answer_has_its_frames_and_its_end(hub: Hub, source: Source) -> None:
    client = watch(hub, chunked=True)
    source.wait_for_reading()
    hub.close()
    data = receive_all(client)
    assert data == b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in map(packets, source.events)) + END


def test_nothing_runs_while_nobody_watches(hub: Hub, source: Source) -> None:
    assert live_threads() == 0
    for _ in range(3):
        clients = [watch(hub) for _ in range(2)]
        for client in clients:
            receive(client, packets(*source.events))
        assert live_threads() == 1
        for client in clients:
            client.close()
        wait_until(lambda: live_threads() == 0, "the thread ends", 20)
        assert len(hub) == 0


def test_one_that_leaves_is_noticed_and_the_others_stay(hub: Hub, source: Source) -> None:
    stays, leaves = watch(hub), watch(hub)
    receive(stays, packets(*source.events))
    leaves.close()
    wait_until(lambda: len(hub) == 1, "it is noticed", 20)
    source.events = [event("jobs", 7)]
    receive(stays, packets(*source.events))


def test_one_that_never_reads_is_dropped_and_keeps_nobody_waiting(source: Source, hubs: list[Hub]) -> None:
    hubs.append(Hub(source, limit=5, pace=Pace(reading=0.02, repeat=1000, heartbeat=1000, patience=0.3)))
    reads, stuck = watch(hubs[-1]), watch(hubs[-1])
    receive(reads, packets(*source.events))
    number = 0
    while len(hubs[-1]) == 2:
        number += 1
        source.events = [Event.of("jobs", json.dumps([number, "x" * 200_000]))]
        receive(reads, packets(*source.events))
        assert number < 1000
    assert len(hubs[-1]) == 1
    assert len(receive_all(stuck)) < 10 * 200_000


def test_one_that_reads_slowly_gets_the_newest_only() -> None:
    server, client = connect()
    viewer = Viewer(server, chunked=False, now=0)
    big = [Packet.of(b"%03d" % number + b"x" * 500_000) for number in range(20)]
    for number, packet in enumerate(big):
        viewer.offer("jobs", packet, now=number)
        viewer.offer("status", Packet.of(b"<%03d>" % number), now=number)
    assert viewer.is_behind
    assert viewer.stuck_for(now=100) > 80
    received = b""
    while viewer.is_behind:
        received += client.recv(1 << 20)
        viewer.flush(now=100)
    assert viewer.stuck_for(now=200) == 0
    viewer.close()
    received += receive_all(client)
    # Every packet that was begun is whole, and the last one of each kind is there.
    rest = received.replace(b"x" * 500_000, b".")
    assert b"x" not in rest
    assert b"019." in rest
    assert b"<019>" in rest
    assert len(received) < 19 * 500_000


def test_there_is_room_for_so_many(hub: Hub, source: Source) -> None:
    clients = [watch(hub) for _ in range(4)]
    assert hub.has_room
    clients.append(watch(hub))
    assert not hub.has_room
    receive(clients[0], packets(*source.events))
    clients[0].close()
    wait_until(lambda: hub.has_room, "there is room again", 20)


def test_closing_ends_everybody_and_lets_nobody_in(hub: Hub, source: Source) -> None:
    clients = [watch(hub) for _ in range(3)]
    receive(clients[0], packets(*source.events))
    hub.close()
    for client in clients:
        receive_all(client)
    assert (len(hub), live_threads(), hub.has_room) == (0, 0, False)
    assert receive_all(watch(hub)) == b""
    hub.close()


def test_a_viewer_that_has_gone_before_it_came_is_no_viewer(hub: Hub, source: Source) -> None:
    server, client = connect()
    server.close()
    hub.add(server, chunked=False)
    assert (len(hub), live_threads()) == (0, 0)
    client.close()
    receive(watch(hub), packets(*source.events))


def test_after_an_error_that_nobody_expected_viewers_begin_anew(
    hub: Hub, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda failed: reported.append(failed.exc_type))
    client = watch(hub)
    receive(client, packets(*source.events))
    source.error = ZeroDivisionError("nobody expected it")
    assert receive_all(client) == b""
    # Viewers are let go before the error is reported: without this, that may happen in the middle of another test.
    wait_until(lambda: reported == [ZeroDivisionError], "the error is reported", 20)
    source.error = None
    receive(watch(hub), packets(*source.events))
    assert len(hub) == 1


# --- taking a connection over ------------------------------------------------------------------------------------


def environ(given: Any, protocol: str = "HTTP/1.1") -> dict[str, Any]:
    return {"gunicorn.socket": given, "SERVER_PROTOCOL": protocol}


def test_a_connection_that_was_taken_over_outlives_what_the_server_does_to_it() -> None:
    server, client = connect()
    server.sendall(b"head")
    taken = take_connection(environ(server))
    assert taken is not None
    with pytest.raises(BrokenPipeError):
        server.sendall(b"the end of the answer")
    server.setblocking(True)
    server.shutdown(socket.SHUT_WR)
    assert server.recv(10) == b""
    server.close()
    taken.send(b", and an event")
    taken.close()
    assert receive_all(client) == b"head, and an event"


@pytest.mark.parametrize("protocol", ["HTTP/2.0", "HTTP/0.9"])
def test_other_protocols_are_left_alone(protocol: str) -> None:
    server, client = connect()
    assert take_connection(environ(server, protocol)) is None
    server.sendall(b"whole")
    server.close()
    assert receive_all(client) == b"whole"


def test_other_servers_are_left_alone() -> None:
    assert take_connection({"SERVER_PROTOCOL": "HTTP/1.1"}) is None
    assert take_connection(environ(object())) is None


def test_older_clients_get_no_chunks() -> None:
    assert is_chunked(environ(None))
    assert not is_chunked(environ(None, "HTTP/1.0"))
