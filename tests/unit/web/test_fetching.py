"""Fetching pictures from addresses: what is allowed, and what an unfriendly server can do."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from common import __version__
from tests.unit.web.site import (
    CERTIFICATE,
    HERE,
    NAME,
    PICTURE,
    Handler,
    Site,
    answer,
    local_fetcher,
    names,
    redirect,
    running_site,
    trickle,
)
from web.addresses import Address, AddressNotAllowed, FetchError
from web.fetching import MAX_FETCHES, FetchedPage, FetchedTooLarge, Fetcher, FetcherBusy, FetchTimeout


@pytest.fixture
def site() -> Iterator[Site]:
    """A site on this machine."""
    with running_site() as running:
        yield running


@pytest.fixture
def tls_site() -> Iterator[Site]:
    """One with https."""
    with running_site(tls=True) as running:
        yield running


@pytest.fixture
def trusting() -> ssl.SSLContext:
    """Knows the certificate of that site."""
    return ssl.create_default_context(cafile=str(CERTIFICATE))


def test_a_picture_is_fetched_and_asked_for_politely(site: Site) -> None:
    assert local_fetcher(site).fetch(site.url()) == PICTURE
    ((path, headers),) = site.requests
    assert path == "/a.jpg"
    assert headers["Host"] == f"{NAME}:{site.server_port}"
    assert headers["User-Agent"] == f"Imagesearch/{__version__}"
    assert headers["Accept-Encoding"] == "identity"
    assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}


def test_pieces_and_an_unknown_length_are_understood(site: Site) -> None:
    def in_pieces(handler: Handler) -> None:
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
        )

    site.pages["/pieces"] = in_pieces
    site.pages["/until-the-end"] = lambda handler: handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nhello world") and None
    assert local_fetcher(site).fetch(site.url("/pieces")) == b"hello world"
    assert local_fetcher(site).fetch(site.url("/until-the-end")) == b"hello world"


def test_the_environment_names_no_proxy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert local_fetcher(site).fetch(site.url()) == PICTURE


class TestRedirects:
    """Addresses that lead to others."""

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_they_are_followed_without_cookies(self, site: Site, status: int) -> None:
        site.pages["/old"] = redirect("a.jpg", status)
        assert local_fetcher(site).fetch(site.url("/old")) == PICTURE
        assert [path for path, _ in site.requests] == ["/old", "/a.jpg"]
        assert "Cookie" not in site.requests[1][1]

    def test_three_are_followed_and_no_fourth(self, site: Site) -> None:
        site.pages |= {f"/{number}": redirect(f"/{number - 1}") for number in (4, 3, 2)} | {"/1": redirect("/a.jpg")}
        assert local_fetcher(site).fetch(site.url("/3")) == PICTURE
        with pytest.raises(FetchError, match="more than 3 times"):
            local_fetcher(site).fetch(site.url("/4"))

    @pytest.mark.parametrize(
        ("location", "said"),
        [
            ("http://inside.test:{port}/a.jpg", "not on the public internet"),
            ("//inside.test:{port}/a.jpg", "not on the public internet"),
            ("http://pictures.test:22/", "port 22"),
            ("http://me@pictures.test:{port}/", "user name"),
            ("file:///etc/passwd", "http://"),
            ("http://[bad/", "not a valid"),
        ],
    )
    def test_each_hop_is_checked(self, site: Site, location: str, said: str) -> None:
        site.pages["/out"] = redirect(location.format(port=site.server_port))
        fetcher = local_fetcher(site, resolve=names(inside_test=["10.0.0.7"]))
        with pytest.raises(AddressNotAllowed, match=said):
            fetcher.fetch(site.url("/out"))
        assert [path for path, _ in site.requests] == ["/out"]

    def test_none_leads_from_https_to_http(self, site: Site, tls_site: Site, trusting: ssl.SSLContext) -> None:
        ports = {site.server_port, tls_site.server_port}
        tls_site.pages["/out"] = redirect(site.url())
        site.pages["/in"] = redirect(tls_site.url())
        fetcher = local_fetcher(site, ports=ports, tls=trusting)
        with pytest.raises(AddressNotAllowed, match="from https to http"):
            fetcher.fetch(tls_site.url("/out"))
        assert fetcher.fetch(site.url("/in")) == PICTURE

    def test_a_redirect_without_an_address_is_an_error(self, site: Site) -> None:
        site.pages["/lost"] = answer(b"", 302)
        with pytest.raises(FetchError, match="answers 302"):
            local_fetcher(site).fetch(site.url("/lost"))


class TestNames:
    """What the resolver says."""

    @pytest.mark.parametrize("places", [("127.0.0.1", "10.0.0.7"), ("10.0.0.7", "127.0.0.1"), ("::1", "127.0.0.1")])
    def test_one_address_that_is_refused_is_enough(self, site: Site, places: tuple[str, ...]) -> None:
        with pytest.raises(AddressNotAllowed):
            local_fetcher(site, resolve=names(*places)).fetch(site.url())
        assert site.requests == []

    def test_a_name_is_looked_up_once_for_each_hop(self, site: Site) -> None:
        """So that a second answer cannot lead elsewhere than the one that was checked."""
        asked: list[str] = []

        def resolve(host: str, port: int) -> list[Address]:
            asked.append(host)
            return [HERE if len(asked) <= 2 else ipaddress.ip_address("10.0.0.7")]

        site.pages["/old"] = redirect("/a.jpg")
        assert local_fetcher(site, resolve=resolve).fetch(site.url("/old")) == PICTURE
        assert asked == [NAME, NAME]
        with pytest.raises(AddressNotAllowed):
            local_fetcher(site, resolve=resolve).fetch(site.url("/old"))

    def test_the_next_address_is_tried_when_one_does_not_answer(self, site: Site) -> None:
        fetcher = local_fetcher(
            site, resolve=names("127.0.0.2", "127.0.0.1"), is_allowed=lambda address: address.is_loopback
        )
        assert fetcher.fetch(site.url()) == PICTURE

    def test_an_unknown_name_is_said(self, site: Site) -> None:
        with pytest.raises(FetchError, match=r"nowhere\.test"):
            local_fetcher(site).fetch(site.url(host="nowhere.test"))


class TestAnswers:
    """What the server says."""

    def test_a_large_file_is_not_read_to_its_end(self, site: Site) -> None:
        site.pages["/announced"] = answer(b"", Content_Length="20001")
        endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        site.pages["/endless"] = trickle(endless, b"1000\r\n" + bytes(0x1000) + b"\r\n")
        site.pages["/fits"] = answer(bytes(20_000))
        for path in ("/announced", "/endless"):
            with pytest.raises(FetchedTooLarge, match="20,000 bytes"):
                local_fetcher(site).fetch(site.url(path))
        assert len(local_fetcher(site).fetch(site.url("/fits"))) == 20_000

    def test_what_is_compressed_is_not_unpacked(self, site: Site) -> None:
        site.pages["/zip"] = answer(Content_Encoding="gzip")
        site.pages["/plain"] = answer(Content_Encoding="Identity")
        with pytest.raises(FetchError, match="compressed"):
            local_fetcher(site).fetch(site.url("/zip"))
        assert local_fetcher(site).fetch(site.url("/plain")) == PICTURE

    @pytest.mark.parametrize(("status", "said"), [(404, "404 .Not Found."), (500, "500"), (204, "204"), (599, "599")])
    def test_another_status_is_said(self, site: Site, status: int, said: str) -> None:
        site.pages["/gone"] = answer(b"", status)
        with pytest.raises(FetchError, match=said):
            local_fetcher(site).fetch(site.url("/gone"))

    def test_a_web_page_is_said_to_be_one(self, site: Site) -> None:
        site.pages["/page"] = answer(b"<html>", Content_Type="text/html; charset=utf-8")
        with pytest.raises(FetchedPage, match="web page"):
            local_fetcher(site).fetch(site.url("/page"))

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"hello\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        ],
    )
    def test_nonsense_is_an_error(self, site: Site, raw: bytes) -> None:
        site.pages["/raw"] = lambda handler: handler.wfile.write(raw) and None
        with pytest.raises(FetchError):
            local_fetcher(site).fetch(site.url("/raw"))

    def test_a_server_that_is_not_there_is_said(self) -> None:
        with socket.create_server((str(HERE), 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(FetchError, match="cannot be reached"):
            Fetcher(100, ports={port}, is_allowed=lambda _: True, resolve=names()).fetch(f"http://{NAME}:{port}/")


class TestTime:
    """One limit holds for everything, so each of these ends although something is always about to happen."""

    @pytest.mark.parametrize(
        ("start", "drop"),
        [
            (b"", b""),
            (b"HTTP/1.1 ", b"2"),
            (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", b"x"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ],
        ids=["silence", "status", "header", "length", "pieces", "until-the-end", "continue"],
    )
    def test_a_slow_answer_ends(self, site: Site, start: bytes, drop: bytes) -> None:
        site.pages["/slow"] = trickle(start, drop)
        with pytest.raises(FetchTimeout, match=r"0\.3 seconds"):
            local_fetcher(site, seconds=0.3).fetch(site.url("/slow"))

    def test_a_slow_resolver_ends(self, site: Site) -> None:
        released = threading.Event()

        def resolve(host: str, port: int) -> list[Address]:
            released.wait()
            return [HERE]

        try:
            with pytest.raises(FetchTimeout):
                local_fetcher(site, seconds=0.3, resolve=resolve).fetch(site.url())
        finally:
            released.set()

    def test_a_server_that_does_not_shake_hands_ends(self, trusting: ssl.SSLContext) -> None:
        with socket.create_server((str(HERE), 0)) as silent:
            port = silent.getsockname()[1]
            fetcher = Fetcher(100, seconds=0.3, ports={port}, is_allowed=lambda _: True, resolve=names(), tls=trusting)
            with pytest.raises(FetchTimeout):
                fetcher.fetch(f"https://{NAME}:{port}/")


class TestEncryption:
    """https."""

    def test_the_certificate_is_checked_for_the_name_not_the_address(
        self, tls_site: Site, trusting: ssl.SSLContext
    ) -> None:
        fetcher = local_fetcher(tls_site, tls=trusting, resolve=names(other_test=[str(HERE)]))
        assert fetcher.fetch(tls_site.url()) == PICTURE
        with pytest.raises(FetchError, match=r"cannot be trusted: Hostname mismatch.*other\.test"):
            fetcher.fetch(tls_site.url(host="other.test"))

    def test_only_authorities_that_the_system_knows_are_trusted(self, tls_site: Site) -> None:
        with pytest.raises(FetchError, match="cannot be trusted: self"):
            local_fetcher(tls_site).fetch(tls_site.url())
        assert tls_site.requests == []


def test_only_so_many_are_fetched_at_once(site: Site) -> None:
    arrived, released = threading.Semaphore(0), threading.Event()

    def slow(handler: Handler) -> None:
        arrived.release()
        released.wait()
        answer()(handler)

    site.pages["/slow"] = slow
    fetcher = local_fetcher(site)
    with ThreadPoolExecutor(MAX_FETCHES) as pool:
        running = [pool.submit(fetcher.fetch, site.url("/slow")) for _ in range(MAX_FETCHES)]
        for _ in running:
            assert arrived.acquire(timeout=30)
        with pytest.raises(FetcherBusy, match="try again"):
            fetcher.fetch(site.url())
        released.set()
        assert [future.result() for future in running] == [PICTURE] * MAX_FETCHES
    assert fetcher.fetch(site.url()) == PICTURE
