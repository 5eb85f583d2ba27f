"""Who may do what: the token as a header, the cookie of the sign-in page, and what stays open."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from common.errors import ConfigurationError
from common.settings import Settings
from tests.unit.web.building import index_files, picture_bytes
from web import access

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]

TOKEN = "s3cret-ü"
BEARER = {"Authorization": f"Bearer {TOKEN}".encode().decode("latin-1")}
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OWN = {"Sec-Fetch-Site": "same-origin"}
JOBS = "/api/v1/index-jobs"
FOLDER = {"folder": "photos"}


@pytest.fixture
def writing(make_client: MakeClient) -> FlaskClient:
    """A server where changes need the token."""
    return make_client(api_token=SecretStr(TOKEN))


@pytest.fixture
def reading(make_client: MakeClient) -> FlaskClient:
    """A server where everything needs it."""
    return make_client(api_token=SecretStr(TOKEN), require_auth="read")


def upload() -> dict[str, object]:
    return {"image": (io.BytesIO(picture_bytes()), "a.jpg")}


def sign_in(client: FlaskClient, **form: str) -> TestResponse:
    return client.post("/sign-in", data={"token": TOKEN, **form}, headers=OWN)


# --- what needs the token ------------------------------------------------------------------------------------


def test_reading_needs_a_token_that_lets_people_in() -> None:
    with pytest.raises(ConfigurationError, match=r"IMAGESEARCH_REQUIRE_AUTH: .*set IMAGESEARCH_API_TOKEN"):
        Settings.load({"IMAGESEARCH_REQUIRE_AUTH": "read"})
    with pytest.raises(ConfigurationError, match="IMAGESEARCH_REQUIRE_AUTH"):
        Settings.load({"IMAGESEARCH_REQUIRE_AUTH": "everything", "IMAGESEARCH_API_TOKEN": "a"})
    assert Settings.load({"IMAGESEARCH_REQUIRE_AUTH": "read", "IMAGESEARCH_API_TOKEN": "a"}).require_auth == "read"


def test_a_token_guards_changes_and_leaves_searching_open(writing: FlaskClient, check_problem: Check) -> None:
    assert "Bearer" in check_problem(writing.post(JOBS, json=FOLDER), 401)
    assert writing.post("/api/v1/searches", data=upload()).status_code == 202
    for path in ("/", "/api/v1/status", "/api/v1/images", "/metrics"):
        assert writing.get(path).status_code == 200
    assert writing.post(JOBS, json=FOLDER, headers=BEARER).status_code == 202


def test_reading_can_need_the_token_too(
    reading: FlaskClient, check_problem: Check, settings: Settings, library: Path
) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    image = f"/api/v1/images/{entry.image_id}"
    paths = ["/api/v1/status", "/api/v1/images", image, f"{image}/original", f"{image}/thumbnail", "/api/v1/events"]
    paths += ["/", "/browse", "/folders", "/duplicates", "/api/docs", "/api/v1/openapi.json", "/metrics", "/nothing"]
    for path in paths:
        response = reading.get(path)
        check_problem(response, 401)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="imagesearch"'
    check_problem(reading.post("/api/v1/searches", data=upload()), 401)
    for path in paths[:-1]:
        with reading.get(path, headers=BEARER) as response:
            assert response.status_code == 200, path
    assert reading.post("/api/v1/searches", data=upload(), headers=BEARER).status_code == 202


def test_health_static_files_and_questions_of_browsers_stay_open(reading: FlaskClient) -> None:
    assert reading.get("/healthz").status_code == 200
    assert reading.get("/readyz").status_code == 503  # there is no worker
    with reading.get("/static/app.css") as response:
        assert response.status_code == 200
    assert reading.options("/api/v1/status").status_code == 200


def test_what_is_wrong_is_told_only_to_those_who_may_read(reading: FlaskClient) -> None:
    strangers = reading.get("/readyz").get_json()
    assert strangers["checks"] == {"redis": True, "store": False, "query_worker": False}
    assert all("imagesearch worker" not in told for told in strangers["problems"].values())
    known = reading.get("/readyz", headers=BEARER).get_json()
    assert "imagesearch worker" in known["problems"]["query_worker"]
    assert known["checks"] == strangers["checks"]


def test_the_document_says_that_reading_needs_the_token(reading: FlaskClient) -> None:
    paths = reading.get("/api/v1/openapi.json", headers=BEARER).get_json()["paths"]
    assert paths["/api/v1/images"]["get"]["security"] == [{"token": []}]
    assert "401" in paths["/api/v1/images"]["get"]["responses"]
    assert "security" not in paths["/healthz"]["get"]


@pytest.mark.parametrize(
    "wrong", ["Bearer", "Bearer ", "Bearer nope", f"Basic {TOKEN}", TOKEN, "Bearer \xff", "Bearer s3cret"]
)
def test_a_wrong_token_is_refused(reading: FlaskClient, wrong: str) -> None:
    header = wrong.encode().decode("latin-1")
    assert reading.get("/api/v1/status", headers={"Authorization": header}).status_code == 401


# --- signing in ----------------------------------------------------------------------------------------------


def test_a_browser_is_sent_to_sign_in_and_back(reading: FlaskClient) -> None:
    sent = reading.get("/browse/photos?folders=x", headers=HTML)
    assert (sent.status_code, sent.headers["Location"]) == (303, "/sign-in?next=/browse/photos?folders%3Dx")
    page = reading.get(sent.headers["Location"], headers=HTML)
    target = re.search(r'name="next" value="([^"]*)"', page.get_data(as_text=True))
    assert target is not None
    answer = sign_in(reading, next=target[1])
    assert (answer.status_code, answer.headers["Location"]) == (303, "/browse/photos?folders=x")
    assert reading.get("/", headers=HTML).status_code == 200
    assert reading.get("/sign-in").status_code == 303  # there is nothing to ask any more


def test_the_cookie_is_out_of_reach_and_is_not_the_token(reading: FlaskClient) -> None:
    cookie = sign_in(reading).headers["Set-Cookie"]
    for part in ("HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={access.SESSION_SECONDS}"):
        assert part in cookie
    assert "Secure" not in cookie
    assert "s3cret" not in cookie
    secure = reading.post("/sign-in", data={"token": TOKEN}, headers=OWN, base_url="https://localhost")
    assert "Secure" in secure.headers["Set-Cookie"]


def test_a_wrong_token_is_asked_for_again(reading: FlaskClient, check_problem: Check) -> None:
    answer = reading.post("/sign-in", data={"token": "nope", "next": "/browse"}, headers=OWN)
    assert answer.status_code == 401
    page = answer.get_data(as_text=True)
    assert "This is not the token" in page
    assert 'value="/browse"' in page
    assert "Set-Cookie" not in answer.headers
    for body in ({"token": "nope"}, {"token": 1}, {}, []):
        check_problem(reading.post("/sign-in", json=body, headers=OWN), 401)
    assert reading.post("/sign-in", data="{", content_type="application/json", headers=OWN).status_code == 400


@pytest.mark.parametrize(
    "target",
    ["//evil.test", "https://evil.test", "/\\evil.test", "/\t/evil.test", "\\\\evil.test", "evil", "/a\r\nX: y", ""],
)
def test_nobody_is_led_to_another_site(reading: FlaskClient, target: str) -> None:
    assert sign_in(reading, next=target).headers["Location"] == "/"
    assert reading.get("/sign-in", query_string={"next": target}).headers["Location"] == "/"


def test_who_signs_out_is_out(reading: FlaskClient) -> None:
    sign_in(reading)
    assert "Sign out" in reading.get("/", headers=HTML).get_data(as_text=True)
    assert reading.post("/sign-out", headers=OWN).status_code == 303
    assert reading.get("/api/v1/status").status_code == 401


def test_a_cookie_ends_with_its_time_and_with_the_token(
    reading: FlaskClient, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(reading)
    cookie = reading.get_cookie(access.COOKIE)
    assert cookie is not None
    other = make_client(api_token=SecretStr("another"), require_auth="read")
    other.set_cookie(access.COOKIE, cookie.value)
    assert other.get("/api/v1/status").status_code == 401
    for forged in (cookie.value[:-1], f"x{cookie.value}", cookie.value.rpartition(".")[0], "\xff", "a.b.c"):
        other = make_client(api_token=SecretStr(TOKEN), require_auth="read")
        other.set_cookie(access.COOKIE, forged)
        assert other.get("/api/v1/status").status_code == 401
    assert reading.get("/api/v1/status").status_code == 200
    monkeypatch.setattr(access, "SESSION_SECONDS", -1)
    assert reading.get("/api/v1/status").status_code == 401


def test_a_server_without_a_token_has_nobody_to_sign_in(client: FlaskClient) -> None:
    assert client.get("/sign-in").headers["Location"] == "/"
    assert client.post("/sign-in", data={"token": "x"}, headers=OWN).headers["Location"] == "/"
    assert "Sign out" not in client.get("/").get_data(as_text=True)


# --- what other sites could try ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, 202),
        ({"Origin": "http://localhost"}, 202),
        ({"Origin": "https://localhost"}, 202),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Origin": "http://localhost:8080"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_a_change_with_the_cookie_must_come_from_our_own_page(
    writing: FlaskClient, headers: dict[str, str], status: int
) -> None:
    sign_in(writing)
    assert writing.post(JOBS, json=FOLDER, headers=headers).status_code == status


def test_a_form_cannot_change_anything_with_the_cookie(writing: FlaskClient) -> None:
    sign_in(writing)
    assert writing.post(JOBS, data=FOLDER, headers=OWN).status_code == 415


def test_an_upload_with_the_cookie_must_come_from_our_own_page(reading: FlaskClient) -> None:
    sign_in(reading)
    assert reading.post("/api/v1/searches", data=upload(), headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert reading.post("/api/v1/searches", data=upload(), headers=OWN).status_code == 202


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
def test_other_sites_cannot_sign_anybody_in_or_out(reading: FlaskClient, check_problem: Check, path: str) -> None:
    answer = reading.post(path, data={"token": TOKEN}, headers={"Origin": "https://evil.test"})
    check_problem(answer, 403)
    assert "Set-Cookie" not in answer.headers


def test_a_proxy_is_believed_only_where_there_is_one(make_client: MakeClient) -> None:
    forwarded = {**OWN, "X-Forwarded-Proto": "https"}
    for proxies, secure in ((0, False), (1, True)):
        client = make_client(api_token=SecretStr(TOKEN), trusted_proxies=proxies)
        answer = client.post("/sign-in", data={"token": TOKEN}, headers=forwarded)
        assert ("Secure" in answer.headers["Set-Cookie"]) is secure
