"""Searches for near-duplicates through the API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from common.duplicates import DuplicateBoard, DuplicateGroup, DuplicateImage
from common.settings import Settings
from tests.unit.web.building import index_files

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]
URL = "/api/v1/duplicate-jobs"


@pytest.fixture
def board(settings: Settings) -> DuplicateBoard:
    """The board as the workers see it."""
    return DuplicateBoard(redis.Redis.from_url(settings.redis_url), settings.data_dir)


def test_a_job_is_taken_and_its_groups_are_read_page_by_page(
    client: FlaskClient, settings: Settings, library: Path, board: DuplicateBoard
) -> None:
    entries = index_files(settings, library, ["a.jpg", "b.jpg"])
    (library / "2024").mkdir()
    response = client.post(URL, json={"min_score": 0.9, "folder": str(library / "2024")})
    assert response.status_code == 202
    accepted = response.get_json()
    assert accepted["url"] == response.headers["Location"] == f"{URL}/{accepted['id']}"
    waiting = client.get(accepted["url"]).get_json()
    assert (waiting["state"], waiting["min_score"], waiting["folder"]) == ("queued", 0.9, "photos/2024")
    assert (waiting["groups"], waiting["next_cursor"]) == ([], None)

    job = board.begin(accepted["id"])
    assert job is not None
    board.report(job, 0, 2)
    images = [
        DuplicateImage(image_id=entry.image_id, path=entry.path, width=48, height=32, size=entry.record.size)
        for entry in entries
    ]
    board.finish(job, [DuplicateGroup(images=images, lowest_score=0.98, best_score=0.99)] * 3)
    first = client.get(f"{accepted['url']}?limit=2").get_json()
    assert (first["state"], first["done"], first["total"], first["found_groups"]) == ("done", 2, 2, 3)
    assert [len(group["images"]) for group in first["groups"]] == [2, 2]
    assert client.get(first["groups"][0]["images"][1]["thumbnail_url"]).status_code == 200
    second = client.get(f"{accepted['url']}?limit=2&cursor={first['next_cursor']}").get_json()
    assert (len(second["groups"]), second["next_cursor"]) == (1, None)


@pytest.mark.parametrize("body", ["null", "false", "0", "[]", '""'])
def test_what_is_no_json_object_is_refused(client: FlaskClient, check_problem: Check, body: str) -> None:
    response = client.post(URL, data=body, content_type="application/json")
    assert check_problem(response, 422)


def test_without_values_it_is_the_whole_collection(client: FlaskClient, board: DuplicateBoard) -> None:
    job = board.get(client.post(URL, json={}).get_json()["id"])
    assert (job.min_score, job.folder) == (0.97, None)


@pytest.mark.parametrize("body", [{"min_score": 0.5}, {"min_score": 1.1}, {"folder": "/etc"}, {"minscore": 0.9}, []])
def test_values_that_cannot_be_used_are_refused(
    client: FlaskClient, check_problem: Check, body: dict[str, object]
) -> None:
    check_problem(client.post(URL, json=body), 422)


def test_a_cursor_of_something_else_is_refused(
    client: FlaskClient, check_problem: Check, board: DuplicateBoard
) -> None:
    job = board.begin(board.create(0.97, None).id)
    assert job is not None
    board.finish(job, [])
    assert "next_cursor" in check_problem(client.get(f"{URL}/{job.id}?cursor=7"), 422)
    check_problem(client.get(f"{URL}/{job.id}?limit=0"), 422)


@pytest.mark.parametrize("job_id", ["20250101-000000-abcdef", "x:alive", "..%2F..", "a b"])
def test_an_unknown_job_is_not_found(client: FlaskClient, check_problem: Check, job_id: str) -> None:
    check_problem(client.get(f"{URL}/{job_id}"), 404)


def test_a_server_with_a_token_asks_for_it(make_client: MakeClient, check_problem: Check) -> None:
    client = make_client(api_token=SecretStr("secret-token"))
    check_problem(client.post(URL, json={}), 401)
    check_problem(client.post(URL, data={}), 401)


def test_the_latest_jobs_come_first(client: FlaskClient, board: DuplicateBoard) -> None:
    assert client.get(URL).get_json() == []
    ids = [client.post(URL, json={}).get_json()["id"] for _ in range(3)]
    job = board.begin(ids[1])
    assert job is not None
    board.finish(job, [])
    listed = client.get(URL).get_json()
    assert [(job["id"], job["state"]) for job in listed] == [(ids[2], "queued"), (ids[1], "done"), (ids[0], "queued")]
    assert "groups" not in listed[0]
