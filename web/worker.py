"""gunicorn's threads, given only to clients that have said what they want.

As it is, each connection takes a thread for seconds before it has sent anything, and keeps it while the head of its
request comes in, byte by byte if the client likes. Here the main loop waits for the head: it can, for many.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

# From the connection, or the first byte on one that was kept, to the end of the head.
HEAD_SECONDS = 15.0
# The longest head: what other servers take, too.
MAX_HEAD_BYTES = 32 * 1024
# A client that takes or gives nothing at all for so long is given up.
SILENCE_SECONDS = 20.0

# So long the rest of a body that nobody wants is read, so that the client sees the answer.
DRAIN_SECONDS = 0.5

_END_OF_HEAD = b"\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection(TConn):  # type: ignore[misc]
    """A connection on which nothing is waited for without end.

    Attributes:
        seen: How many bytes of the next head have come.
    """

    seen = 0

    def init(self) -> None:
        """In the thread, right before a request is read."""
        super().init()
        self.sock.settimeout(SILENCE_SECONDS)

    def close(self, graceful: bool = False) -> None:
        """In the main loop, which must not wait for a client: the thread has done that."""
        util.close(self.sock)


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """Hands a connection to a thread when the head of a request lies in the kernel's buffer."""

    def accept(self, listener: socket.socket) -> None:
        """A new connection."""
        try:
            client, address = listener.accept()
        except OSError:  # it has gone already, or another process was faster
            return
        self.nr_conns += 1
        self._await_head(Connection(self.cfg, client, address, listener.getsockname()))

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """The next request on a connection that was kept."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_head(conn)

    def on_pending_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """More of a head."""
        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        self._look(conn)

    def murder_pending(self) -> None:
        """Drops connections whose heads take too long."""
        now = time.monotonic()
        for conn in [conn for conn in self.pending_conns if conn.timeout <= now]:
            self.pending_conns.remove(conn)
            with suppress(OSError, KeyError, ValueError):
                self.poller.unregister(conn.sock)
            self._drop(conn)

    def handle(self, conn: Any) -> Any:
        """In a thread: a request."""
        keep = super().handle(conn)
        rest = conn.parser.unreader.buf.getvalue() if keep and conn.parser is not None else b""
        if rest and _END_OF_HEAD not in rest:
            # The beginning of another request came with this one, and a thread would have to wait for the rest.
            keep = False
        if not keep:
            util.close_graceful(conn.sock, timeout=DRAIN_SECONDS)
        return keep

    def handle_request(self, req: Any, conn: Any) -> Any:
        """In a thread: answers it."""
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            self.log.debug("a client takes nothing of its answer")
            return False

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:
        # As gunicorn does it, but not for five seconds.
        return bool(keepalive and conn.parser.finish_body(deadline=time.monotonic() + DRAIN_SECONDS))

    def _await_head(self, conn: Any) -> None:
        conn.timeout = time.monotonic() + HEAD_SECONDS
        conn.seen = 0
        conn.sock.setblocking(False)
        self._look(conn)

    def _look(self, conn: Any) -> None:
        """Looks at what has come, without taking it."""
        try:
            seen = conn.sock.recv(MAX_HEAD_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            seen = None
        except OSError:
            self._drop(conn)
            return
        if seen is not None and len(seen) <= conn.seen:
            self._drop(conn)  # nothing new, and it is readable: nothing more will come
        elif seen and _END_OF_HEAD in seen:
            _wake_at(conn.sock, 1)
            conn.data_ready = True
            self.enqueue_req(conn)
        elif seen and len(seen) >= MAX_HEAD_BYTES:
            with suppress(OSError):
                conn.sock.send(_TOO_LARGE)
            self._drop(conn)
        else:
            # Not for what was seen already, again and again.
            conn.seen = len(seen or b"")
            _wake_at(conn.sock, conn.seen + 1)
            self.pending_conns.append(conn)
            self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _drop(self, conn: Any) -> None:
        self.nr_conns -= 1
        util.close(conn.sock)


def _wake_at(connection: socket.socket, count: int) -> None:
    """The connection counts as readable from so many bytes on."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
