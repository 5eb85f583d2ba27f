"""`Idempotency-Key`: what is sent again is not done again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from apiflask import HTTPError
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.messages import IndexJob
from common.progress import JobBoard
from common.redis_client import connect
from common.settings import Settings
from web.idempotency import Answer, Submission
from web.services import EXTENSION

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]
JOBS = "/api/v1/index-jobs"
KEY = {"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}
SUBMISSIONS = (JOBS, f"{JOBS}/{{job_id}}/retry", "/api/v1/duplicate-jobs")


@pytest.fixture
def board(settings: Settings) -> JobBoard:
    """The jobs as the workers see them."""
    return JobBoard(connect(settings))


@pytest.fixture
def stored(settings: Settings) -> redis.Redis:
    """Redis, as the web tier sees it."""
    return connect(settings)


def keys_in(stored: redis.Redis) -> list[bytes]:
    """The names under which Redis keeps what was sent with a key."""
    return list(stored.scan_iter("imagesearch:idempotency:*"))


def test_the_same_request_is_answered_the_same_and_makes_one_job(client: FlaskClient, stored: redis.Redis) -> None:
    first = client.post(JOBS, json={"folder": "photos"}, headers=KEY)
    again = client.post(JOBS, json={"folder": "photos"}, headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.data == first.data
    assert again.headers["Location"] == first.headers["Location"]
    assert again.content_type == first.content_type
    assert len(client.get(JOBS).get_json()) == 1
    (name,) = keys_in(stored)
    assert 24 * 3600 - 60 < stored.ttl(name) <= 24 * 3600


def test_without_a_key_each_request_counts(client: FlaskClient, stored: redis.Redis) -> None:
    ids = {client.post(JOBS, json={"folder": "photos"}).get_json()["id"] for _ in range(2)}
    assert len(ids) == 2
    assert keys_in(stored) == []


def test_another_key_is_another_request(client: FlaskClient) -> None:
    ids = {
        client.post(JOBS, json={"folder": "photos"}, headers={"Idempotency-Key": key}).get_json()["id"]
        for key in ("a", "b", "A", '"b"')
    }
    assert len(ids) == 3


def test_every_submission_heeds_it(client: FlaskClient, board: JobBoard) -> None:
    job_id = client.post(JOBS, json={"folder": "photos"}).get_json()["id"]
    board.add(job_id, {"failed": 1}, {"photos/b.jpg": "The file is empty."})
    for number, path in enumerate(SUBMISSIONS):
        body = {"folder": "photos"} if "retry" not in path else None
        headers = {"Idempotency-Key": str(number)}
        answers = [client.post(path.format(job_id=job_id), json=body, headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].get_json() == answers[1].get_json()
    assert len(client.get(JOBS).get_json()) == 3


def test_a_key_belongs_to_one_request(client: FlaskClient, library: Path, check_problem: Check) -> None:
    (library / "2024").mkdir()
    assert client.post(JOBS, json={"folder": "photos"}, headers=KEY).status_code == 202
    for path, body in (
        (JOBS, {"folder": "photos/2024"}),
        (JOBS, {"folder": "photos", "allow_empty": True}),
        (f"{JOBS}?x=1", {"folder": "photos"}),
        ("/api/v1/duplicate-jobs", {"folder": "photos"}),
    ):
        response = client.post(path, json=body, headers=KEY)
        assert "another request" in check_problem(response, 422)
        assert [error["field"] for error in response.get_json()["errors"]] == ["Idempotency-Key"]
    assert len(client.get(JOBS).get_json()) == 1


def test_a_request_that_failed_leaves_the_key_free(
    client: FlaskClient, library: Path, stored: redis.Redis, check_problem: Check
) -> None:
    body = {"folder": "photos/later"}
    for _ in range(2):
        assert "does not exist" in check_problem(client.post(JOBS, json=body, headers=KEY), 422)
    assert keys_in(stored) == []
    (library / "later").mkdir()
    assert client.post(JOBS, json=body, headers=KEY).status_code == 202


def test_a_request_that_is_being_handled_is_a_conflict(
    client: FlaskClient, check_problem: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitter = client.application.extensions[EXTENSION].client
    submit, meanwhile = submitter.submit_index_job, []

    def repeated_meanwhile(folder: str, **options: Any) -> IndexJob:
        with client.application.test_client() as another:
            meanwhile.append(another.post(JOBS, json={"folder": "photos"}, headers=KEY))
        return submit(folder, **options)

    monkeypatch.setattr(submitter, "submit_index_job", repeated_meanwhile)
    assert client.post(JOBS, json={"folder": "photos"}, headers=KEY).status_code == 202
    (response,) = meanwhile
    assert "still being handled" in check_problem(response, 409)
    assert response.headers["Retry-After"] == "1"
    assert len(client.get(JOBS).get_json()) == 1


def test_many_at_the_same_moment_make_one_job(client: FlaskClient) -> None:
    together = threading.Barrier(20)

    def submit(_: int) -> TestResponse:
        with client.application.test_client() as another:
            together.wait()
            return another.post(JOBS, json={"folder": "photos"}, headers=KEY)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(submit, range(20)))
    (job,) = client.get(JOBS).get_json()
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert {answer.get_json()["id"] for answer in answers if answer.status_code == 202} == {job["id"]}
    assert client.post(JOBS, json={"folder": "photos"}, headers=KEY).get_json()["id"] == job["id"]


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 129, '"' + "x" * 129 + '"'])
def test_a_key_that_is_none_is_refused(client: FlaskClient, check_problem: Check, key: str) -> None:
    response = client.post(JOBS, json={"folder": "photos"}, headers={"Idempotency-Key": key})
    assert check_problem(response, 422) == "Idempotency-Key: It must have 1 to 128 visible ASCII characters."
    assert client.get(JOBS).get_json() == []


@pytest.mark.parametrize("key", ["x", "x" * 128, '"' + "x" * 128 + '"', '""', "a,b;c=:/?*"])
def test_any_visible_characters_are_a_key(client: FlaskClient, key: str) -> None:
    assert client.post(JOBS, json={"folder": "photos"}, headers={"Idempotency-Key": key}).status_code == 202


def test_a_server_that_died_meanwhile_does_not_keep_the_key(stored: redis.Redis) -> None:
    first = Submission(stored, "key", "request")
    assert first.take() is None
    (name,) = keys_in(stored)
    assert 0 < stored.ttl(name) <= 120
    stored.delete(name)  # the time is over

    second = Submission(stored, "key", "request")
    assert second.take() is None
    for late in (first.release, lambda: first.keep(Answer(body={"id": "late"}, status=202, headers={}))):
        late()
        with pytest.raises(HTTPError, match="still being handled"):
            Submission(stored, "key", "request").take()
    second.keep(Answer(body={"id": "second"}, status=202, headers={}))
    known = Submission(stored, "key", "request").take()
    assert known is not None
    assert known.body == {"id": "second"}


def test_without_redis_nothing_is_submitted(make_client: MakeClient, check_problem: Check) -> None:
    client = make_client(redis_url="redis://localhost:1/0")
    assert "Redis" in check_problem(client.post(JOBS, json={"folder": "photos"}, headers=KEY), 503)


def test_the_header_is_documented(client: FlaskClient) -> None:
    document = client.get("/api/v1/openapi.json").get_json()
    for path in SUBMISSIONS:
        operation = document["paths"][path]["post"]
        (header,) = (item for item in operation["parameters"] if item["in"] == "header")
        assert (header["name"], header["required"]) == ("Idempotency-Key", False)
        assert "24 hours" in header["description"]
        assert header["schema"]["type"] == "string"
        assert {"409", "422"} <= set(operation["responses"])
