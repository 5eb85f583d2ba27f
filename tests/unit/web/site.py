"""A web site on this machine, for what fetches pictures. What each of its paths does is up to the test."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.unit.web.building import picture_bytes
from web.addresses import Address
from web.fetching import Fetcher

CERTIFICATE = Path(__file__).parents[2] / "data" / "pictures-test.pem"
NAME = "pictures.test"
HERE = ipaddress.ip_address("127.0.0.1")
PICTURE = picture_bytes()


class Handler(BaseHTTPRequestHandler):
    """Hands a request over to the test."""

    server: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers))
        self.close_connection = True
        self.server.pages[self.path](self)

    def log_message(self, format: str, *args: Any) -> None:
        pass


Page = Callable[[Handler], None]


class Site(ThreadingHTTPServer):
    """The site: what it has, and what it was asked for."""

    daemon_threads = True

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__((str(HERE), 0), Handler)
        self.pages: dict[str, Page] = {"/a.jpg": answer()}
        self.requests: list[tuple[str, Message]] = []
        self.closing = threading.Event()
        self._scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def url(self, path: str = "/a.jpg", host: str = NAME) -> str:
        """The address of one of its pages, under any name."""
        return f"{self._scheme}://{host}:{self.server_port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients may go when they like."""


@contextmanager
def running_site(*, tls: bool = False) -> Iterator[Site]:
    """A site, as long as the block lasts."""
    with Site(tls=tls) as site:
        serving = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield site
        finally:
            site.closing.set()
            site.shutdown()
            serving.join()


def answer(body: bytes = PICTURE, status: int = 200, **headers: str) -> Page:
    """A page that is complete at once."""

    def page(handler: Handler) -> None:
        handler.send_response(status)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Type": "image/jpeg", "Content-Length": str(len(body)), **given}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return page


def redirect(location: str, status: int = 302) -> Page:
    """A page that is somewhere else."""
    return answer(b"", status, Location=location, Set_Cookie="seen=yes")


def trickle(start: bytes, drop: bytes) -> Page:
    """An answer that never ends, and never pauses for long."""

    def page(handler: Handler) -> None:
        handler.wfile.write(start)
        while not handler.server.closing.wait(0.02):
            handler.wfile.write(drop)

    return page


def names(*places: str, **hosts: Sequence[str]) -> Callable[[str, int], list[Address]]:
    """Stands for the system's resolver: `pictures.test` is at `places`, other hosts (`_` for `.`) where they say."""
    known: Mapping[str, Sequence[str]] = {
        NAME: places or (str(HERE),),
        **{host.replace("_", "."): found for host, found in hosts.items()},
    }

    def resolve(host: str, port: int) -> list[Address]:
        if host not in known:
            raise socket.gaierror("no such host")
        return [ipaddress.ip_address(place) for place in known[host]]

    return resolve


def local_fetcher(site: Site, **options: Any) -> Fetcher:
    """A fetcher that may also connect to the site, and to nothing else on this machine."""
    defaults = {
        "max_bytes": 20_000,
        "seconds": 60,
        "ports": {site.server_port},
        "is_allowed": lambda address: address == HERE,
        "resolve": names(),
    }
    return Fetcher(**{**defaults, **options})
