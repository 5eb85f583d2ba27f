"""One viewer: a connection that never makes anybody wait."""

from __future__ import annotations

import socket
from contextlib import suppress

from web.live.events import END, Packet

# What the kernel holds for a viewer that reads slowly. By itself it would take megabytes for each.
_SEND_BUFFER_BYTES = 64 * 1024
# A client whose host went away without a word is given up after this time.
_UNANSWERED_MS = 30_000


class Viewer:
    """Sends what the connection takes at once; of the rest it keeps the newest packet of each kind.

    Args:
        connection: Closed with the viewer.
        chunked: Whether the answer on it is a chunked one.
        now: The time in `time.monotonic()`.

    Raises:
        OSError: The connection is gone.
    """

    __slots__ = ("_chunked", "_offset", "_progress", "_sending", "_waiting", "connection")

    def __init__(self, connection: socket.socket, *, chunked: bool, now: float) -> None:
        self.connection = connection
        self._chunked = chunked
        self._sending = b""
        self._offset = 0
        self._waiting: dict[str, bytes] = {}
        self._progress = now
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        if connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)

    def offer(self, kind: str, packet: Packet, now: float) -> None:
        """Sends a packet, or keeps it until the connection takes it: then an older one of its kind is left out.

        Raises:
            OSError: The connection is gone.
        """
        if not self.is_behind:
            self._progress = now
        self._waiting[kind] = packet.chunk if self._chunked else packet.plain
        self.flush(now)

    def flush(self, now: float) -> None:
        """Sends what waits, as much as the connection takes.

        Raises:
            OSError: The connection is gone.
        """
        with suppress(BlockingIOError):
            while self.is_behind:
                if not self._sending:
                    self._sending, self._offset = self._waiting.pop(next(iter(self._waiting))), 0
                self._offset += self.connection.send(memoryview(self._sending)[self._offset :])
                self._progress = now
                if self._offset == len(self._sending):
                    self._sending = b""

    @property
    def is_behind(self) -> bool:
        """Whether something waits."""
        return bool(self._sending or self._waiting)

    def stuck_for(self, now: float) -> float:
        """For how many seconds the connection has taken nothing of what waits."""
        return now - self._progress if self.is_behind else 0.0

    def close(self) -> None:
        """Ends the connection; before it the answer, if nothing is missing in it."""
        with suppress(OSError):
            if self._chunked and not self.is_behind:
                self.connection.send(END)
        self.connection.close()
