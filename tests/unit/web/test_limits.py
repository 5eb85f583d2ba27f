"""How much each client may ask for."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benchmarks.system import wait_until
from common.settings import Settings
from tests.unit.web.building import picture_bytes
from web.limits import client_name

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]
SEARCHES, JOBS = "/api/v1/searches", "/api/v1/index-jobs"


def search(client: FlaskClient, address: str = "192.0.2.1", **headers: str) -> TestResponse:
    return client.post(
        SEARCHES,
        data={"image": (io.BytesIO(picture_bytes()), "a.jpg")},
        headers=headers,
        environ_overrides={"REMOTE_ADDR": address},
    )


def test_searches_are_limited_for_each_client(make_client: MakeClient, check_problem: Check) -> None:
    client = make_client(search_rate_limit=2)
    assert [search(client).status_code for _ in range(2)] == [202, 202]
    refused = search(client)
    assert "at most 2 searches" in check_problem(refused, 429)
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert search(client, "192.0.2.2").status_code == 202
    # Nothing else is touched.
    assert client.get("/api/v1/status", environ_overrides={"REMOTE_ADDR": "192.0.2.1"}).status_code == 200
    assert client.post(JOBS, json={"folder": "photos"}).status_code == 202


def test_who_has_waited_may_go_on(make_client: MakeClient, settings: Settings) -> None:
    client = make_client(search_rate_limit=60)
    with redis.Redis.from_url(settings.redis_url) as connection:
        # As if the client had asked for all that it may, and there were another one in half a second.
        full_ms = time.time() * 1000 + 59_500
        connection.set("imagesearch:limit:search:192.0.2.1", f"{full_ms:.3f}", px=59_500)
    refused = search(client)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    wait_until(lambda: search(client).status_code == 202, "the bucket has one", 20)


def test_started_jobs_are_limited_and_repeats_are_not(make_client: MakeClient, check_problem: Check) -> None:
    client = make_client(job_rate_limit=1)
    first = client.post(JOBS, json={"folder": "photos"}, headers={"Idempotency-Key": "a"})
    again = client.post(JOBS, json={"folder": "photos"}, headers={"Idempotency-Key": "a"})
    assert (first.status_code, again.get_json()) == (202, first.get_json())
    check_problem(client.post(JOBS, json={"folder": "photos"}), 429)
    check_problem(client.post("/api/v1/duplicate-jobs", json={}), 429)
    # It can be controlled all the same.
    assert client.post(f"{JOBS}/{first.get_json()['id']}/cancel").status_code == 200


def test_nobody_is_limited_by_default(client: FlaskClient, settings: Settings) -> None:
    assert {search(client).status_code for _ in range(30)} == {202}
    with redis.Redis.from_url(settings.redis_url) as connection:
        assert not list(connection.scan_iter(match="imagesearch:limit:*"))


def test_the_address_behind_a_proxy_counts(make_client: MakeClient) -> None:
    client = make_client(search_rate_limit=1, trusted_proxies=1)
    forwarded = {"X-Forwarded-For": "192.0.2.66, 198.51.100.1"}  # the first part is what the client claims
    assert search(client, "10.0.0.1", **forwarded).status_code == 202
    assert search(client, "10.0.0.1", **{"X-Forwarded-For": "192.0.2.77, 198.51.100.1"}).status_code == 429
    assert search(client, "10.0.0.1", **{"X-Forwarded-For": "198.51.100.2"}).status_code == 202


def test_without_a_proxy_nobody_chooses_an_address(make_client: MakeClient) -> None:
    client = make_client(search_rate_limit=1)
    assert search(client, **{"X-Forwarded-For": "192.0.2.66"}).status_code == 202
    assert search(client, **{"X-Forwarded-For": "192.0.2.77"}).status_code == 429


def test_without_redis_the_reason_is_told(make_client: MakeClient, check_problem: Check) -> None:
    client = make_client(search_rate_limit=1, redis_url="redis://localhost:1/0")
    assert "Redis is not reachable" in check_problem(search(client), 503)


def test_a_full_redis_limits_nobody(make_client: MakeClient, settings: Settings) -> None:
    client = make_client(job_rate_limit=1)
    with redis.Redis.from_url(settings.redis_url) as connection:
        connection.config_set("maxmemory", "1")
        try:
            answers = [client.post(JOBS, json={"folder": "photos"}).status_code for _ in range(3)]
        finally:
            connection.config_set("maxmemory", "0")
    assert answers == [503] * 3  # from what comes after it


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("", "unknown"),
        (None, "unknown"),
        ("a:b", "unknown"),
    ],
)
def test_a_client_is_an_address_or_a_network(address: str | None, name: str) -> None:
    assert client_name(address) == name
