"""One thread that tells all viewers what has changed, as long as there are any."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from web.live.events import HEARTBEAT, Event, Packet
from web.live.viewer import Viewer


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a broadcast does what, in seconds.

    Attributes:
        reading: From one reading of the events to the next.
        repeat: What changed without a new `key` is sent so long after the last time at the earliest.
        heartbeat: From one comment to the next, so that nothing on the way takes a quiet connection for dead.
        patience: A viewer whose connection takes nothing for so long is dropped.
    """

    reading: float = 1.0
    repeat: float = 5.0
    heartbeat: float = 15.0
    patience: float = 20.0


class Broadcast(threading.Thread):
    """Reads the events again and again, and sends what changed to its viewers. Ends with the last of them.

    Args:
        read: Gives the events as they are now.
        pace: How often it does what.
        first: The first viewer.
    """

    def __init__(self, read: Callable[[], Iterable[Event]], pace: Pace, first: Viewer) -> None:
        super().__init__(name="live", daemon=True)
        self._read = read
        self._pace = pace
        self._lock = threading.Lock()
        self._arrivals = [first]
        self._over = False
        self._stopping = False
        self._bell, self._door = socket.socketpair()
        # Only its own thread uses these.
        self._selector = selectors.DefaultSelector()
        self._viewers: set[Viewer] = set()
        self._sent: dict[str, tuple[Event, float]] = {}

    def __len__(self) -> int:
        """How many viewers there are."""
        return len(self._viewers) + len(self._arrivals)

    def admit(self, viewer: Viewer) -> bool:
        """Takes in another viewer. Gives False if the broadcast is over."""
        with self._lock:
            if self._over:
                return False
            self._arrivals.append(viewer)
            self._ring()
            return True

    def stop(self) -> None:
        """Ends the broadcast, and all connections with it."""
        with self._lock:
            self._stopping = True
            if not self._over:
                self._ring()

    def run(self) -> None:
        """The thread."""
        self._bell.setblocking(False)
        self._door.setblocking(False)
        self._selector.register(self._door, selectors.EVENT_READ)
        try:
            self._serve()
        finally:
            # Also after an error that nobody expected: browsers come back by themselves, and another one begins.
            with self._lock:
                self._over = True
                for viewer in (*self._viewers, *self._arrivals):
                    viewer.close()
                self._viewers.clear()
                self._arrivals.clear()
                self._selector.close()
                self._bell.close()
                self._door.close()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # then it will hear one of the many before
            self._bell.send(b"\0")

    def _serve(self) -> None:
        reading, heartbeat = 0.0, time.monotonic() + self._pace.heartbeat
        while not self._is_over():
            now = time.monotonic()
            if now >= reading:
                reading = now + self._pace.reading
                self._tell_news()
                self._drop_stuck()
            if now >= heartbeat:
                heartbeat = now + self._pace.heartbeat
                self._send(self._viewers, "heartbeat", HEARTBEAT)
            self._welcome()
            for key, mask in self._selector.select(max(0.0, min(reading, heartbeat) - time.monotonic())):
                self._hear(key.data, mask)

    def _is_over(self) -> bool:
        with self._lock:
            self._over = self._stopping or not (self._viewers or self._arrivals)
            return self._over

    def _hear(self, viewer: Viewer | None, mask: int) -> None:
        if viewer is None:
            with suppress(BlockingIOError):
                self._door.recv(4096)
        elif mask & selectors.EVENT_READ:
            # A viewer has nothing to say: it has gone, or is none.
            self._drop(viewer)
        else:
            self._attempt(viewer, viewer.flush)

    def _tell_news(self) -> None:
        sent: dict[str, tuple[Event, float]] = {}
        for event in self._read():
            now = time.monotonic()
            before = self._sent.get(event.name)
            if before is None or self._is_news(event, *before, now):
                self._send(self._viewers, event.name, event.packet)
                before = event, now
            sent[event.name] = before
        # What is not there now is told anew when it comes back.
        self._sent = sent

    def _is_news(self, event: Event, before: Event, sent_at: float, now: float) -> bool:
        if event.key != before.key:
            return True
        return event.packet != before.packet and now - sent_at >= self._pace.repeat

    def _welcome(self) -> None:
        with self._lock:
            arrivals, self._arrivals = self._arrivals, []
            self._viewers.update(arrivals)
        for viewer in arrivals:
            self._selector.register(viewer.connection, selectors.EVENT_READ, viewer)
        for event, _ in self._sent.values():
            self._send(arrivals, event.name, event.packet)

    def _send(self, viewers: Iterable[Viewer], kind: str, packet: Packet) -> None:
        for viewer in tuple(viewers):
            if viewer in self._viewers:  # and has not been dropped since
                self._attempt(viewer, partial(viewer.offer, kind, packet))

    def _attempt(self, viewer: Viewer, action: Callable[[float], None]) -> None:
        """Does something with a connection; looks out for when it takes more, and drops it if it is gone."""
        try:
            action(time.monotonic())
        except OSError:
            self._drop(viewer)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if viewer.is_behind else 0)
        if self._selector.get_key(viewer.connection).events != wanted:
            self._selector.modify(viewer.connection, wanted, viewer)

    def _drop_stuck(self) -> None:
        for viewer in tuple(self._viewers):
            if viewer.stuck_for(time.monotonic()) > 0:
                self._attempt(viewer, viewer.flush)  # the last look may be long ago, if the reading took its time
            if viewer.stuck_for(time.monotonic()) > self._pace.patience:
                self._drop(viewer)

    def _drop(self, viewer: Viewer) -> None:
        if viewer not in self._viewers:
            return  # that last look has found it gone
        self._selector.unregister(viewer.connection)
        self._viewers.discard(viewer)
        viewer.close()
