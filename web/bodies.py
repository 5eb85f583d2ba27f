"""The bodies of requests, which come at the client's pace, broken, or never."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, cast

from flask import Response, current_app, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import BadRequest, RequestTimeout, ServiceUnavailable
from werkzeug.wsgi import ClosingIterator

from web.slots import Slot, Slots

MOST_BODIES, MOST_FILES = 16, 12
# A phone may take its time. As long as there is room, so may everybody.
LONGEST_BODY_SECONDS, LONGEST_FILE_SECONDS = 300.0, 1800.0
FAIR_BODY_SECONDS, FAIR_FILE_SECONDS = 10.0, 30.0

_FILES = "imagesearch.files"
# What gives a place back, in the environment of a request that took one.
_LEAVE = "imagesearch.leave"
_BUSY = "Too many uploads are on their way. Try again shortly."
_TOO_SLOW = "The request took too long to come in, and others wait. Try again on a faster connection."

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


def bounded(application: WSGI) -> WSGI:
    """Makes the bodies of requests to a WSGI application take a place while they are read."""
    slots = Slots(MOST_BODIES, longest=LONGEST_BODY_SECONDS, fair=FAIR_BODY_SECONDS, direction=socket.SHUT_RD)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = Body(environ["wsgi.input"], slots, environ.get("gunicorn.socket"))
        environ["wsgi.input"] = body
        try:
            sent = application(environ, start_response)
        except BaseException:
            environ.pop(_LEAVE, _nothing)()
            raise
        finally:
            body.leave()
        leave = environ.pop(_LEAVE, None)
        return sent if leave is None else _until_sent(sent, environ, leave)

    return answer


def _nothing() -> None:
    pass


def _until_sent(sent: Any, environ: dict[str, Any], leave: Callable[[], None]) -> Iterable[bytes]:
    """The same answer, which calls `leave` when the server is through with it."""
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is None or not isinstance(sent, wrapper):
        return ClosingIterator(sent, leave)
    # The kernel sends the file of this one, if it is handed on as it is; Flask's `call_on_close` is not called then.
    close_file = sent.close

    def close() -> None:
        try:
            close_file()
        finally:
            leave()

    sent.close = close
    return cast("Iterable[bytes]", sent)


class Body:
    """The body of a request as a file, which takes a place when it is first read.

    What goes wrong with it is the client's doing, and becomes the answer that it gets.

    Args:
        file: The body as the server gives it.
        slots: The places.
        connection: The client's.
    """

    def __init__(self, file: Any, slots: Slots, connection: socket.socket | None) -> None:
        self._file = file
        self._slots = slots
        self._connection = connection
        self._slot: Slot | None = None

    def read(self, size: int = -1) -> bytes:
        """See `io.RawIOBase`."""
        return self._checked(self._file.read, size)

    def readline(self, size: int = -1) -> bytes:
        """See `io.RawIOBase`."""
        return self._checked(self._file.readline, size)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def leave(self) -> None:
        """Gives the place back."""
        if self._slot is not None:
            self._slots.give_back(self._slot)

    def _checked(self, read: Callable[[int], bytes], size: int) -> bytes:
        if self._slot is None:
            self._slot = self._slots.take(self._connection)
            if self._slot is None:
                raise ServiceUnavailable(_BUSY, retry_after=2)
        try:
            data = read(size)
        except (OSError, ParseException) as error:
            if self._slot.is_cut or isinstance(error, TimeoutError):
                raise RequestTimeout(_TOO_SLOW) from None
            raise BadRequest("The body is broken, or ends too early.") from None
        if self._slot.is_cut:
            raise RequestTimeout(_TOO_SLOW)
        return data


def bounded_file(response: Response) -> Response:
    """Makes an answer that is a file take a place until it is sent.

    Raises:
        ServiceUnavailable: There is none.
    """
    slots = cast(Slots, current_app.extensions[_FILES])
    slot = slots.take(request.environ.get("gunicorn.socket"))
    if slot is None:
        response.close()
        raise ServiceUnavailable("Too many files are being fetched. Try again shortly.", retry_after=2)
    request.environ[_LEAVE] = partial(slots.give_back, slot)
    return response


def register(app: Any) -> None:
    """Bounds what comes in, and makes the places for `bounded_file`."""
    app.wsgi_app = bounded(app.wsgi_app)
    app.extensions[_FILES] = Slots(
        MOST_FILES, longest=LONGEST_FILE_SECONDS, fair=FAIR_FILE_SECONDS, direction=socket.SHUT_WR
    )
