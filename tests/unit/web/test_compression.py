from __future__ import annotations

import gzip

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

GZIP = {"Accept-Encoding": "gzip, deflate, br, zstd"}


def get(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    """A whole answer, as a browser that takes compressed ones asks for it."""
    return client.get(
        path, headers=GZIP | {name.replace("_", "-"): value for name, value in headers.items()}, buffered=True
    )


@pytest.mark.parametrize("path", ["/", "/api/docs", "/static/app.css", "/static/search.js"])
def test_pages_styles_and_scripts_are_compressed(client: FlaskClient, path: str) -> None:
    plain = client.get(path, buffered=True)
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == "Accept-Encoding"
    compressed = get(client, path)
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert compressed.headers["Vary"] == "Accept-Encoding"
    assert int(compressed.headers["Content-Length"]) == len(compressed.data) < len(plain.data) / 2
    assert gzip.decompress(compressed.data) == plain.data
    assert compressed.content_type == plain.content_type


def test_a_file_that_is_known_is_not_sent_again(client: FlaskClient) -> None:
    first = get(client, "/static/app.css")
    etag = first.headers["ETag"]
    assert etag.startswith("W/"), "its bytes are not those of the file"
    again = get(client, "/static/app.css", If_None_Match=etag)
    assert (again.status_code, again.data) == (304, b"")


def test_what_asks_for_a_part_gets_it_as_it_is(client: FlaskClient) -> None:
    part = get(client, "/static/app.css", Range="bytes=0-9")
    assert (part.status_code, len(part.data)) == (206, 10)
    assert "Content-Encoding" not in part.headers


def test_only_the_head_says_how_long_it_would_be(client: FlaskClient) -> None:
    head = client.head("/static/app.css", headers=GZIP, buffered=True)
    assert head.data == b""
    assert head.headers["Content-Length"] == get(client, "/static/app.css").headers["Content-Length"]


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/openapi.json", "/healthz"])
def test_answers_of_the_api_are_sent_as_they_are(client: FlaskClient, path: str) -> None:
    assert "Content-Encoding" not in get(client, path).headers


def test_who_refuses_it_gets_plain_text(client: FlaskClient) -> None:
    assert "Content-Encoding" not in get(client, "/", Accept_Encoding="gzip;q=0, identity").headers
