"""The hub: where viewers come in, and where their number is limited."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable

from web.live.broadcast import Broadcast, Pace
from web.live.events import Event
from web.live.viewer import Viewer

_JOIN_SECONDS = 3.0


class Hub:
    """Tells every viewer each event that has changed.

    A broadcast begins with the first viewer and ends with the last one: nobody watching costs nothing.

    Args:
        read: Gives the events as they are now.
        limit: So many viewers there may be.
        pace: How often it does what.
    """

    def __init__(self, read: Callable[[], Iterable[Event]], *, limit: int, pace: Pace | None = None) -> None:
        self.limit = limit
        self._read = read
        self._pace = pace or Pace()
        self._lock = threading.Lock()
        self._broadcast: Broadcast | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many viewers there are."""
        broadcast = self._broadcast
        return 0 if broadcast is None else len(broadcast)

    @property
    def has_room(self) -> bool:
        """Whether another viewer may come."""
        return not self._closed and len(self) < self.limit

    def read(self) -> list[Event]:
        """The events as they are now, for somebody who cannot stay."""
        return list(self._read())

    def add(self, connection: socket.socket, *, chunked: bool) -> None:
        """Takes in a viewer. It gets all events at once, and then each one that changes.

        Args:
            connection: The viewer's; the answer on it has begun. It belongs to the hub from now on.
            chunked: Whether that answer is a chunked one.
        """
        try:
            viewer = Viewer(connection, chunked=chunked, now=time.monotonic())
        except OSError:  # it has gone already
            connection.close()
            return
        with self._lock:
            if self._closed:
                viewer.close()
            elif self._broadcast is None or not self._broadcast.admit(viewer):
                self._broadcast = Broadcast(self._read, self._pace, viewer)
                self._broadcast.start()

    def close(self) -> None:
        """Ends all connections. Nobody is taken in any more."""
        with self._lock:
            self._closed = True
            broadcast = self._broadcast
        if broadcast is not None:
            broadcast.stop()
            broadcast.join(_JOIN_SECONDS)
