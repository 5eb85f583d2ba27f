"""Searches for the picture at an address, through the API."""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.settings import Settings
from tests.unit.web.building import search_board
from tests.unit.web.site import PICTURE, Site, answer, local_fetcher, running_site
from web.services import EXTENSION

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]
SEARCHES = "/api/v1/searches"


@pytest.fixture
def site() -> Iterator[Site]:
    """A site on this machine."""
    with running_site() as running:
        yield running


@pytest.fixture
def client(make_client: MakeClient, site: Site) -> FlaskClient:
    """A client of a server that fetches pictures from that site."""
    client = make_client(allow_url_queries=True)
    extensions = client.application.extensions
    extensions[EXTENSION] = dataclasses.replace(extensions[EXTENSION], fetcher=local_fetcher(site))
    return client


@pytest.mark.parametrize("kind", ["json", "data"])
def test_the_picture_reaches_the_worker_like_an_upload(
    client: FlaskClient, settings: Settings, site: Site, kind: str
) -> None:
    fields = {"url": site.url(), "k": 7, "crop": "0,0,0.5,1"}
    options: dict[str, Any] = {kind: fields}
    if kind == "data":
        options["content_type"] = "multipart/form-data"
    response = client.post(SEARCHES, **options)
    assert response.status_code == 202, response.get_json()
    result = client.get(response.get_json()["url"]).get_json()
    assert [picture["image_id"] for picture in result["query"]["images"]] == [None]
    taken = search_board(settings).take(response.get_json()["id"])
    assert taken is not None
    assert taken.uploads == (PICTURE,)
    assert (taken.record.query.k, taken.record.query.crop) == (7, (0, 0, 0.5, 1))


def test_what_goes_wrong_is_said_of_the_address(client: FlaskClient, site: Site, check_problem: Check) -> None:
    site.pages |= {
        "/gone": answer(b"", 404),
        "/page": answer(b"<html>", Content_Type="text/html"),
        "/huge": answer(b"", Content_Length="20001"),
    }
    cases = [
        (site.url("/gone"), 422, "404"),
        (site.url("/page"), 415, "web page"),
        (site.url("/huge"), 413, "MAX_UPLOAD_BYTES"),
        ("ftp://pictures.test/a.jpg", 422, "http://"),
        (site.url(host="nowhere.test"), 422, "nowhere.test"),
    ]
    for url, status, said in cases:
        response = client.post(SEARCHES, json={"url": url})
        assert said in check_problem(response, status)
        (error,) = response.get_json()["errors"]
        assert error["field"] == "url"
        assert said in error["message"]


def test_what_is_no_picture_is_refused_like_an_upload(client: FlaskClient, site: Site, check_problem: Check) -> None:
    site.pages |= {"/text": answer(b"hello", Content_Type="text/plain"), "/empty": answer(b"")}
    assert "supported format" in check_problem(client.post(SEARCHES, json={"url": site.url("/text")}), 415)
    assert "empty" in check_problem(client.post(SEARCHES, json={"url": site.url("/empty")}), 422)


def test_nothing_is_fetched_for_a_search_that_cannot_be_made(
    client: FlaskClient, make_client: MakeClient, site: Site, check_problem: Check
) -> None:
    for fields in ({"k": 0}, {"image_id": "00"}, {"images": [{"image_id": "00"}]}, {"crop": [0, 0, 0, 1]}):
        check_problem(client.post(SEARCHES, json={"url": site.url(), **fields}), 422)
    check_problem(client.post(SEARCHES, json={"url": f"{site.url()}?{'x' * 4096}"}), 422)
    full = make_client(allow_url_queries=True, max_queued_searches=1)
    assert full.post(SEARCHES, data={"image": (io.BytesIO(PICTURE), "a.jpg")}).status_code == 202
    check_problem(full.post(SEARCHES, json={"url": site.url()}), 503)
    assert site.requests == []


def test_the_server_itself_fetches_from_the_public_internet_only(
    make_client: MakeClient, site: Site, check_problem: Check
) -> None:
    client = make_client(allow_url_queries=True)
    for url in ("http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://169.254.169.254/latest/meta-data/"):
        response = client.post(SEARCHES, json={"url": url})
        assert "not on the public internet" in check_problem(response, 422)
        assert response.get_json()["type"] == "urn:imagesearch:address-not-allowed"
    assert "port" in check_problem(client.post(SEARCHES, json={"url": site.url(host="127.0.0.1")}), 422)


def test_a_server_that_fetches_enough_says_when_to_come_back(
    client: FlaskClient, site: Site, check_problem: Check
) -> None:
    arrived, released = threading.Semaphore(0), threading.Event()

    def slow(handler: Any) -> None:
        arrived.release()
        released.wait()
        answer()(handler)

    site.pages["/slow"] = slow
    statuses: list[int] = []

    def search() -> None:
        with client.application.test_client() as another:
            statuses.append(another.post(SEARCHES, json={"url": site.url("/slow")}).status_code)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert arrived.acquire(timeout=30)
    response = client.post(SEARCHES, json={"url": site.url()})
    assert "try again" in check_problem(response, 503)
    assert response.headers["Retry-After"] == "2"
    released.set()
    for thread in threads:
        thread.join()
    assert statuses == [202] * 4
