"""Index jobs through the API."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from common.journal import JobJournal
from common.progress import JobBoard
from common.settings import Settings

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]
JOBS = "/api/v1/index-jobs"


@pytest.fixture
def board(settings: Settings) -> JobBoard:
    """The jobs as the workers see them."""
    return JobBoard(redis.Redis.from_url(settings.redis_url))


def test_a_folder_is_taken_and_its_job_listed(client: FlaskClient, library: Path) -> None:
    (library / "2024").mkdir()
    response = client.post(JOBS, json={"folder": "photos/2024"})
    assert response.status_code == 202
    accepted = response.get_json()
    assert accepted["state"] == "scanning"
    assert accepted["url"] == response.headers["Location"] == f"{JOBS}/{accepted['id']}"
    job = client.get(accepted["url"]).get_json()
    assert job["folder"] == "photos/2024"
    assert job["finished_at"] is None
    newer = client.post(JOBS, json={"folder": str(library)}).get_json()
    assert [job["id"] for job in client.get(JOBS).get_json()] == [newer["id"], accepted["id"]]
    assert client.get(newer["url"]).get_json()["folder"] == "photos"


@pytest.mark.parametrize("folder", ["elsewhere", "/etc", "photos/../../etc", "photos/\0"])
def test_a_folder_outside_the_library_is_refused(client: FlaskClient, check_problem: Check, folder: str) -> None:
    assert "outside the library" in check_problem(client.post(JOBS, json={"folder": folder}), 422)
    assert client.get(JOBS).get_json() == []


def test_a_link_out_of_the_library_is_refused(
    client: FlaskClient, library: Path, tmp_path: Path, check_problem: Check
) -> None:
    (tmp_path / "private").mkdir()
    (library / "way-out").symlink_to(tmp_path / "private")
    check_problem(client.post(JOBS, json={"folder": "photos/way-out"}), 422)


def test_a_missing_folder_is_refused(client: FlaskClient, check_problem: Check) -> None:
    assert "does not exist" in check_problem(client.post(JOBS, json={"folder": "photos/none"}), 422)


@pytest.mark.parametrize("body", [{}, {"folder": ""}, {"folder": 5}, {"folder": "photos", "deep": True}, ["photos"]])
def test_a_body_that_names_no_folder_is_refused(client: FlaskClient, check_problem: Check, body: object) -> None:
    check_problem(client.post(JOBS, json=body), 422)


def test_what_is_not_json_is_refused(client: FlaskClient, check_problem: Check) -> None:
    assert "valid JSON" in check_problem(client.post(JOBS, data="{", content_type="application/json"), 400)
    check_problem(client.post(JOBS, data={"folder": "photos"}), 415)
    check_problem(client.post(JOBS, data='{"folder": "photos"}', content_type="text/plain"), 415)


def test_a_job_is_paused_resumed_and_cancelled(client: FlaskClient) -> None:
    url = client.post(JOBS, json={"folder": "photos"}).get_json()["url"]
    states = []
    for action in ("pause", "resume", "cancel"):
        response = client.post(f"{url}/{action}", json={})
        assert response.status_code == 200
        states.append(response.get_json()["state"])
    assert states == ["paused", "scanning", "cancelled"]


def test_an_action_that_the_state_does_not_allow_is_a_conflict(client: FlaskClient, check_problem: Check) -> None:
    url = client.post(JOBS, json={"folder": "photos"}).get_json()["url"]
    assert "cannot be resumed" in check_problem(client.post(f"{url}/resume", json={}), 409)
    client.post(f"{url}/cancel", json={})
    for action in ("pause", "resume", "cancel"):
        check_problem(client.post(f"{url}/{action}", json={}), 409)


def test_actions_work_without_a_body_but_not_from_a_form_of_another_site(
    client: FlaskClient, check_problem: Check
) -> None:
    url = client.post(JOBS, json={"folder": "photos"}).get_json()["url"]
    assert client.post(f"{url}/pause").status_code == 200
    check_problem(client.post(f"{url}/cancel", data={"x": "1"}), 415)
    check_problem(client.post(f"{url}/cancel", headers={"Origin": "http://evil.example"}), 415)
    assert client.get(url).get_json()["state"] == "paused"


def test_an_unknown_job_is_not_found(client: FlaskClient, check_problem: Check) -> None:
    known = client.post(JOBS, json={"folder": "photos"}).get_json()["id"]
    for job_id in ("20250101-000000-aaaaaa", f"{known}:errors", "a b"):
        check_problem(client.get(f"{JOBS}/{job_id}"), 404)
        check_problem(client.get(f"{JOBS}/{job_id}/errors"), 404)
        for action in ("pause", "resume", "cancel", "retry"):
            check_problem(client.post(f"{JOBS}/{job_id}/{action}", json={}), 404)


def test_failed_files_are_listed_with_their_reasons(client: FlaskClient, board: JobBoard) -> None:
    job_id = client.post(JOBS, json={"folder": "photos"}).get_json()["id"]
    board.add(job_id, {"failed": 2}, {"photos/b.jpg": 'It said "no", twice', "photos/a,ä.jpg": "The file is empty."})
    expected = [("photos/a,ä.jpg", "The file is empty."), ("photos/b.jpg", 'It said "no", twice')]
    listed = client.get(f"{JOBS}/{job_id}/errors").get_json()
    assert [(item["path"], item["error"]) for item in listed] == expected

    response = client.get(f"{JOBS}/{job_id}/errors?format=csv")
    assert response.mimetype == "text/csv"
    assert response.headers["Content-Disposition"] == f'attachment; filename="errors-{job_id}.csv"'
    rows = list(csv.reader(io.StringIO(response.get_data(as_text=True))))
    assert rows == [["path", "error"], *map(list, expected)]


def test_failed_files_are_tried_again_as_a_new_job(client: FlaskClient, board: JobBoard, check_problem: Check) -> None:
    job_id = client.post(JOBS, json={"folder": "photos"}).get_json()["id"]
    assert "without failed files" in check_problem(client.post(f"{JOBS}/{job_id}/retry", json={}), 409)
    board.add(job_id, {"failed": 1}, {"photos/b.jpg": "The file is empty."})
    response = client.post(f"{JOBS}/{job_id}/retry", json={})
    assert response.status_code == 202
    accepted = response.get_json()
    assert accepted["id"] != job_id
    assert accepted["url"] == response.headers["Location"] == f"{JOBS}/{accepted['id']}"
    assert client.get(accepted["url"]).get_json()["folder"] == "photos"
    assert board.options(accepted["id"]) == (["photos/b.jpg"], False)


def test_a_folder_that_has_become_empty_can_be_meant(
    client: FlaskClient, board: JobBoard, check_problem: Check
) -> None:
    for body, expected in (({}, False), ({"allow_empty": False}, False), ({"allow_empty": True}, True)):
        job_id = client.post(JOBS, json={"folder": "photos", **body}).get_json()["id"]
        assert board.options(job_id) == (None, expected)
    check_problem(client.post(JOBS, json={"folder": "photos", "allow_empty": "perhaps"}), 422)


def test_a_job_that_redis_has_lost_is_shown_as_interrupted(
    client: FlaskClient, board: JobBoard, settings: Settings, check_problem: Check
) -> None:
    job_id = client.post(JOBS, json={"folder": "photos"}).get_json()["id"]
    JobJournal(settings.data_dir).begin(board.get(job_id))
    with redis.Redis.from_url(settings.redis_url) as lost:
        lost.flushall()
    (job,) = client.get(JOBS).get_json()
    assert (job["id"], job["state"]) == (job_id, "failed")
    assert job["error"].startswith("interrupted")
    assert client.get(f"{JOBS}/{job_id}").get_json() == job
    assert client.get(f"{JOBS}/{job_id}/errors").get_json() == []
    check_problem(client.post(f"{JOBS}/{job_id}/retry", json={}), 409)


def test_errors_come_as_json_or_csv_only(client: FlaskClient, check_problem: Check) -> None:
    url = client.post(JOBS, json={"folder": "photos"}).get_json()["url"]
    assert client.get(f"{url}/errors").get_json() == []
    check_problem(client.get(f"{url}/errors?format=xml"), 422)


class TestToken:
    """A server that has a token."""

    @pytest.fixture
    def client(self, make_client: MakeClient) -> FlaskClient:
        """A client of such a server."""
        return make_client(api_token=SecretStr("s3cret-ü"))

    @pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic s3cret", "s3cret-ü", "Bearer"])
    def test_changes_need_it(self, client: FlaskClient, check_problem: Check, header: str | None) -> None:
        headers = {"Authorization": header.encode().decode("latin-1")} if header else {}
        for path in (JOBS, f"{JOBS}/x/pause", f"{JOBS}/x/resume", f"{JOBS}/x/cancel", f"{JOBS}/x/retry"):
            response = client.post(path, json={"folder": "photos"}, headers=headers)
            check_problem(response, 401)
            assert response.headers["WWW-Authenticate"].startswith("Bearer")

    def test_it_opens_the_door(self, client: FlaskClient) -> None:
        headers = {"Authorization": "Bearer s3cret-ü".encode().decode("latin-1")}
        assert client.post(JOBS, json={"folder": "photos"}, headers=headers).status_code == 202

    def test_reading_does_not_need_it(self, client: FlaskClient) -> None:
        assert client.get(JOBS).status_code == 200
        assert client.get("/api/v1/status").status_code == 200
        assert client.post("/api/v1/searches", json={"k": 1}).status_code == 422
