"""The connection behind a request: whether its client is still there, and taking it over from the server.

Who takes it over frees the thread while the connection stays open.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from typing import Any

_PROTOCOLS = {"HTTP/1.0", "HTTP/1.1"}


def take_connection(environ: dict[str, Any]) -> socket.socket | None:
    """Takes the client's connection out of gunicorn's hands, in the middle of an answer.

    gunicorn ends every connection with a shutdown, which a duplicate of the socket does not survive. So its socket is
    made to lead nowhere: what it still writes and closes is a socket whose other end is gone. It takes that for a
    client that went away, and is done with the request.

    Args:
        environ: The WSGI environment of the request.

    Returns:
        The connection, which blocks no more; None where it cannot be taken: another server, encryption or HTTP/2.

    Raises:
        OSError: No more files can be opened.
    """
    given = _socket_of(environ)
    if given is None:
        return None
    nowhere, other_end = socket.socketpair()
    other_end.close()
    with nowhere:
        connection = given.dup()
        # In one step: no other thread can get the number of gunicorn's file meanwhile.
        os.dup2(nowhere.fileno(), given.fileno(), inheritable=False)
    connection.setblocking(False)
    return connection


def is_connected(environ: dict[str, Any]) -> bool:
    """Whether the client has not closed the connection yet; true where that cannot be seen."""
    given = _socket_of(environ)
    if given is None:
        return True
    try:
        # Asked first: on a socket with a time limit reading waits, whatever its flags say.
        waiting = select.poll()
        waiting.register(given, select.POLLIN)
        # One who waits says nothing; the end of the connection can be read like a message.
        return not waiting.poll(0) or given.recv(1, socket.MSG_PEEK) != b""
    except (OSError, ValueError):
        return False


def _socket_of(environ: dict[str, Any]) -> socket.socket | None:
    given = environ.get("gunicorn.socket")
    # An encrypted connection is more than its socket, and one of HTTP/2 carries other answers, too.
    if not isinstance(given, socket.socket) or isinstance(given, ssl.SSLSocket):
        return None
    return given if environ.get("SERVER_PROTOCOL") in _PROTOCOLS else None


def is_chunked(environ: dict[str, Any]) -> bool:
    """Whether gunicorn has begun a chunked answer: it does where the client knows HTTP/1.1 and no length is given."""
    return bool(environ.get("SERVER_PROTOCOL") == "HTTP/1.1")
