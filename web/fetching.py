"""Fetches the picture of a query from an address on the internet.

Whoever searches chooses the address, so this must not become a way into the network that the server stands in. Each
hop is checked on its own: the host is resolved once, every address it has must be public, and the connection goes to
an address that was checked. One time limit holds for everything together.

This is Python's own HTTP client over a connection that is made here: it knows no proxies, redirects, cookies or
compression that would have to be kept off.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property

from common import __version__
from common.errors import ServiceUnavailable
from web.addresses import Address, AddressNotAllowed, FetchError, Target, is_public, resolve_host

__all__ = ["FetchError", "FetchTimeout", "FetchedPage", "FetchedTooLarge", "Fetcher", "FetcherBusy"]

Policy = Callable[[Address], bool]
Resolver = Callable[[str, int], Sequence[Address]]

ALLOWED_PORTS = frozenset({80, 443, 8080, 8443})
MAX_REDIRECTS = 3
FETCH_SECONDS = 10.0
# Each one holds a thread of the server.
MAX_FETCHES = 4

_CHUNK_BYTES = 64 * 1024
_REQUEST_HEADERS = {
    "User-Agent": f"Imagesearch/{__version__}",
    "Accept": "image/*",
    # A small file can unpack to a huge one.
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class FetchTimeout(FetchError):
    """The picture did not arrive in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"The picture was not there after {seconds:g} seconds. Try again, or save it and upload the file."
        )


class FetchedTooLarge(FetchError):
    """The file at this address is too large."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"The file at this address has more than {limit:,} bytes, the most that is accepted "
            "(IMAGESEARCH_MAX_UPLOAD_BYTES)."
        )


class FetchedPage(FetchError):
    """This is the address of a web page, not of a picture: open the picture alone, and copy its address."""


class FetcherBusy(ServiceUnavailable):
    """Too many pictures are being fetched at the moment: try again shortly, or upload the picture."""


class Fetcher:
    """Fetches pictures. One instance serves all threads of the web tier.

    Args:
        max_bytes: Largest file.
        seconds: Time for everything together: looking up names, connecting, redirects, reading.
        is_allowed: Which addresses may be connected to.
        resolve: What finds the addresses of a host.
        ports: Which ports may be connected to.
        tls: The context for `https`; by default certificates are checked against the system's authorities.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        seconds: float = FETCH_SECONDS,
        is_allowed: Policy = is_public,
        resolve: Resolver = resolve_host,
        ports: Container[int] = ALLOWED_PORTS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._is_allowed = is_allowed
        self._resolve = resolve
        self._ports = ports
        self._given_tls = tls
        self._slots = threading.BoundedSemaphore(MAX_FETCHES)

    def fetch(self, url: str) -> bytes:
        """The file at an address. What is in it has still to be checked.

        Raises:
            FetchError: It cannot be had; the message says why.
            FetcherBusy: Too many others are being fetched.
        """
        if not self._slots.acquire(blocking=False):
            raise FetcherBusy
        try:
            return self._follow(url)
        except TimeoutError:
            raise FetchTimeout(self._seconds) from None
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message.rstrip(".")
            raise FetchError(f"The certificate of this site cannot be trusted: {reason}.") from error
        except (OSError, http.client.HTTPException) as error:
            message = "The server of this address cannot be reached, or does not answer as it should."
            raise FetchError(message) from error
        finally:
            self._slots.release()

    def _follow(self, url: str) -> bytes:
        deadline = _Deadline(self._seconds)
        target = self._target(url)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._get(target, deadline)
            if isinstance(answer, bytes):
                return answer
            following = self._target(answer, base=target.url)
            if target.secure and not following.secure:
                raise AddressNotAllowed("The address redirects from https to http, which is not followed.")
            target = following
        raise FetchError(f"The address redirects more than {MAX_REDIRECTS} times.")

    def _target(self, url: str, base: str = "") -> Target:
        target = Target.parse(url, base)
        if target.port not in self._ports:
            raise AddressNotAllowed(f"Nothing is fetched from port {target.port}.")
        return target

    def _get(self, target: Target, deadline: _Deadline) -> bytes | str:
        """The file, or the address that it is at instead."""
        with closing(self._connect(target, deadline)) as plain, deadline.enforced(plain):
            plain.settimeout(deadline.left())
            connection = http.client.HTTPConnection(target.host, target.port)
            with closing(connection):
                # From now on it is in charge of the socket, and never opens one itself.
                connection.sock = self._tls.wrap_socket(plain, server_hostname=target.host) if target.secure else plain
                connection.request("GET", target.path, headers={"Host": target.authority, **_REQUEST_HEADERS})
                with connection.getresponse() as response:
                    return self._answer(response)

    def _connect(self, target: Target, deadline: _Deadline) -> socket.socket:
        addresses = self._addresses(target, deadline)
        failure: OSError = ConnectionError("no address")
        for position, address in enumerate(addresses):
            try:
                # An address that does not answer leaves time for those after it.
                seconds = deadline.left() / (len(addresses) - position)
                return socket.create_connection((str(address), target.port), seconds)
            except OSError as error:
                failure = error
        raise failure

    def _addresses(self, target: Target, deadline: _Deadline) -> Sequence[Address]:
        # The system's resolver knows no time limit. One that hangs ends by itself, later.
        seconds = deadline.left()
        pool = concurrent.futures.ThreadPoolExecutor(1, "resolve")
        try:
            addresses = pool.submit(self._resolve, target.host, target.port).result(seconds)
        except concurrent.futures.TimeoutError:
            raise TimeoutError from None
        except (OSError, ValueError) as error:
            raise FetchError(f"No server is known by the name {target.host}.") from error
        finally:
            pool.shutdown(wait=False)
        if not all(map(self._is_allowed, addresses)):
            raise AddressNotAllowed(f"{target.host} is not on the public internet: nothing is fetched from there.")
        return addresses

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or ssl.create_default_context()

    def _answer(self, response: http.client.HTTPResponse) -> bytes | str:
        location = response.headers.get("Location")
        if response.status in {301, 302, 303, 307, 308} and location:
            # Bytes beyond ASCII come as Latin-1, whatever they are.
            return location.encode("latin-1", "replace").decode("utf-8", "replace")
        if response.status != 200:
            meaning = http.client.responses.get(response.status, "unknown")
            raise FetchError(f"The server of this address answers {response.status} ({meaning}).")
        if response.headers.get_content_type() in {"text/html", "application/xhtml+xml"}:
            raise FetchedPage
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise FetchError("The server of this address sends the picture compressed, although it was asked not to.")
        return self._body(response)

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        announced = response.length
        if announced is not None and announced > self._max_bytes:
            raise FetchedTooLarge(self._max_bytes)
        body = bytearray()
        while chunk := response.read(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                raise FetchedTooLarge(self._max_bytes)
        if announced is not None and len(body) < announced:
            raise FetchError("The connection ended before the whole picture was there.")
        return bytes(body)


class _Deadline:
    """The moment when everything must have ended."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then.

        Raises:
            TimeoutError: There are none.
        """
        seconds = self._ends - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    @contextmanager
    def enforced(self, connection: socket.socket) -> Iterator[None]:
        """Cuts a connection off at that moment: the time limit of a socket begins again with every byte.

        Raises:
            TimeoutError: It was cut off, whatever that looked like inside the block.
        """
        twin = connection.dup()  # encryption takes the socket over
        reached = threading.Event()

        def cut() -> None:
            reached.set()
            with suppress(OSError):  # the other side may be gone already
                twin.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.left(), cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            twin.close()
            if reached.is_set():
                raise TimeoutError
