"""Pages of other origins: kept out by default, let in where the setting names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from common.settings import Settings
from tests.unit.web.building import index_files

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]
STATUS = "/api/v1/status"
JOBS = "/api/v1/index-jobs"
EXPOSED = {"ETag", "Location", "Retry-After", "X-Request-ID"}
FRIEND = {"Origin": "https://friend.example"}
STRANGERS = [
    "https://evil.example",
    "http://friend.example",
    "https://friend.example:8443",
    "https://friend.example.evil.example",
    "https://not-friend.example",
    "https://sub.friend.example",
    "null",
    "*",
    "",
]


def preflight(client: FlaskClient, path: str, origin: str, method: str = "POST") -> TestResponse:
    """What a browser asks before a page of another origin may send JSON."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type,idempotency-key",
    }
    return client.options(path, headers=headers)


def cors_headers(response: TestResponse) -> list[str]:
    """Those that open something."""
    return [name for name, _ in response.headers if name.lower().startswith("access-control-")]


@pytest.fixture
def open_client(make_client: MakeClient) -> FlaskClient:
    """A client of a server that lets two origins in."""
    return make_client(cors_origins=("https://friend.example", "http://localhost:3000"))


def test_it_is_off_by_default(client: FlaskClient) -> None:
    for response in (client.get(STATUS, headers=FRIEND), preflight(client, JOBS, FRIEND["Origin"])):
        assert cors_headers(response) == []
        assert "Vary" not in response.headers
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("origin", ["https://friend.example", "http://localhost:3000"])
def test_a_listed_origin_may_read_answers(open_client: FlaskClient, origin: str) -> None:
    response = open_client.get(STATUS, headers={"Origin": origin})
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert response.headers["Vary"] == "Origin"
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert set(response.headers["Access-Control-Expose-Headers"].split(", ")) == EXPOSED
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("origin", STRANGERS)
def test_others_may_not(open_client: FlaskClient, origin: str) -> None:
    for response in (open_client.get(STATUS, headers={"Origin": origin}), preflight(open_client, JOBS, origin)):
        assert cors_headers(response) == []
        assert response.headers["Vary"] == "Origin"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_cache_knows_that_the_origin_counts_also_without_one(open_client: FlaskClient) -> None:
    response = open_client.get(STATUS)
    assert response.headers["Vary"] == "Origin"
    assert cors_headers(response) == []


def test_a_browser_that_asks_first_is_told_what_is_possible(open_client: FlaskClient) -> None:
    response = preflight(open_client, JOBS, FRIEND["Origin"])
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == FRIEND["Origin"]
    assert set(response.headers["Access-Control-Allow-Methods"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    allowed = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert set(allowed) == {"authorization", "content-type", "idempotency-key"}
    assert response.headers["Access-Control-Max-Age"] == "600"
    only_reading = preflight(open_client, STATUS, FRIEND["Origin"], "GET")
    assert "POST" not in only_reading.headers["Access-Control-Allow-Methods"]


def test_a_question_needs_no_token_but_the_change_does(make_client: MakeClient, check_problem: Check) -> None:
    client = make_client(cors_origins=("https://friend.example",), api_token=SecretStr("s3cret"))
    assert preflight(client, JOBS, FRIEND["Origin"]).status_code == 200
    refused = client.post(JOBS, json={"folder": "photos"}, headers=FRIEND)
    check_problem(refused, 401)
    assert refused.headers["Access-Control-Allow-Origin"] == FRIEND["Origin"]
    token = {"Authorization": "Bearer s3cret"}
    assert client.post(JOBS, json={"folder": "photos"}, headers={**FRIEND, **token}).status_code == 202


def test_errors_can_be_read_too(open_client: FlaskClient, check_problem: Check) -> None:
    for path in ("/api/v1/nothing", "/api/v1/searches/none"):
        response = open_client.get(path, headers=FRIEND)
        check_problem(response, 404)
        assert response.headers["Access-Control-Allow-Origin"] == FRIEND["Origin"]


def test_a_form_of_a_listed_origin_changes_nothing_either(open_client: FlaskClient, check_problem: Check) -> None:
    check_problem(open_client.post(JOBS, data={"folder": "photos"}, headers=FRIEND), 415)
    check_problem(open_client.post(f"{JOBS}/x/pause", headers=FRIEND), 415)


@pytest.mark.parametrize("path", ["/", "/folders", "/api/docs", "/healthz", "/metrics", "/static/app.css"])
def test_only_the_api_is_opened(open_client: FlaskClient, path: str) -> None:
    with open_client.get(path, headers=FRIEND) as response:
        assert response.status_code == 200
        assert cors_headers(response) == []
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_pictures_may_be_shown_by_a_listed_origin(open_client: FlaskClient, settings: Settings, library: Path) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    for part in ("thumbnail", "original"):
        with open_client.get(f"/api/v1/images/{entry.image_id}/{part}", headers=FRIEND) as response:
            assert response.headers["Access-Control-Allow-Origin"] == FRIEND["Origin"]
            assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
            again = {**FRIEND, "If-None-Match": response.headers["ETag"]}
        with open_client.get(f"/api/v1/images/{entry.image_id}/{part}", headers=again) as response:
            assert response.status_code == 304
            assert response.headers["Access-Control-Allow-Origin"] == FRIEND["Origin"]


def test_a_star_lets_everybody_in_without_credentials(make_client: MakeClient) -> None:
    client = make_client(cors_origins=("*", "https://friend.example"))
    for headers in ({}, FRIEND, {"Origin": "https://anybody.example"}):
        response = client.get(STATUS, headers=headers)
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in response.headers
        assert "Vary" not in response.headers
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert preflight(client, JOBS, "https://anybody.example").headers["Access-Control-Allow-Origin"] == "*"
