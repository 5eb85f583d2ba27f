"""Searches through the API."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benchmarks.system import wait_until
from common.settings import Settings
from tests.unit.web.building import answer_search, index_files, picture_bytes, search_board

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]


def upload(client: FlaskClient, data: bytes | None = None, **fields: Any) -> TestResponse:
    """Submits a search for a picture."""
    content = picture_bytes() if data is None else data
    return client.post("/api/v1/searches", data={"image": (io.BytesIO(content), "query.jpg"), **fields})


def test_upload_is_queued_and_its_result_is_found_at_the_url(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    index_files(settings, library, ["a.jpg", "b.jpg"])
    response = upload(client)
    assert response.status_code == 202
    accepted = response.get_json()
    assert accepted["state"] == "queued"
    assert accepted["url"] == response.headers["Location"] == f"/api/v1/searches/{accepted['id']}"
    assert client.get(accepted["url"]).get_json()["state"] == "queued"

    answer_search(settings, accepted["id"])
    result = client.get(accepted["url"]).get_json()
    assert result["state"] == "done"
    assert result["indexed"] == 2
    assert [hit["path"] for hit in result["results"]] == ["photos/a.jpg", "photos/b.jpg"]
    first = result["results"][0]
    assert first["thumbnail_url"] == f"/api/v1/images/{first['image_id']}/thumbnail"
    assert client.get(first["thumbnail_url"]).status_code == 200
    with client.get(first["image_url"]) as original:
        assert original.status_code == 200


def test_upload_reaches_the_worker_with_all_its_options(client: FlaskClient, settings: Settings, library: Path) -> None:
    (library / "2024").mkdir()
    data = picture_bytes("navy")
    response = upload(client, data, k="7", folder=str(library / "2024"), min_score="0.25", crop="0,0.1,0.5,1")
    search_id = response.get_json()["id"]
    taken = search_board(settings).take(search_id)
    assert taken is not None
    query = taken.record.query
    assert (query.k, query.folder, query.min_score) == (7, "photos/2024", 0.25)
    assert query.crop == (0, 0.1, 0.5, 1)
    assert taken.uploads == (data,)


def test_the_time_of_the_upload_and_of_the_poll_is_given(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    index_files(settings, library, ["a.jpg"])
    accepted = upload(client).get_json()
    upload_ms = search_board(settings).record(accepted["id"]).upload_ms
    assert upload_ms is not None
    assert upload_ms > 0
    answer_search(settings, accepted["id"])
    took = client.get(accepted["url"]).get_json()["took_ms"]
    assert took["poll"] > 0
    assert took["total"] == pytest.approx(30 + took["poll"])
    assert client.get(accepted["url"]).get_json()["took_ms"] == took


def test_empty_form_fields_mean_the_defaults(client: FlaskClient, settings: Settings) -> None:
    response = upload(client, k="", folder="", min_score="")
    query = search_board(settings).record(response.get_json()["id"]).query
    assert (query.k, query.folder, query.min_score) == (30, None, None)


def test_search_before_any_model_is_resolved_is_queued(client: FlaskClient) -> None:
    assert upload(client).status_code == 202


def test_search_by_image_id(client: FlaskClient, settings: Settings, library: Path) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    response = client.post("/api/v1/searches", json={"image_id": entry.image_id, "k": 3, "crop": [0, 0, 1, 0.5]})
    assert response.status_code == 202
    query = search_board(settings).record(response.get_json()["id"]).query
    assert (query.image_id, query.k, query.crop) == (entry.image_id, 3, (0, 0, 1, 0.5))


@pytest.mark.parametrize("image_id", ["00" * 16, "nonsense"])
def test_search_by_an_unknown_image_id_is_refused(
    client: FlaskClient, settings: Settings, library: Path, check_problem: Check, image_id: str
) -> None:
    check_problem(client.post("/api/v1/searches", json={"image_id": image_id}), 404)
    index_files(settings, library, ["a.jpg"])
    assert image_id in check_problem(client.post("/api/v1/searches", json={"image_id": image_id}), 404)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"k": "0"}, "k"),
        ({"k": "1001"}, "k"),
        ({"k": "many"}, "k"),
        ({"min_score": "2"}, "min_score"),
        ({"min_score": "nan"}, "min_score"),
        ({"crop": "0,0,1"}, "crop"),
        ({"crop": "0,0,1,1.5"}, "crop"),
        ({"crop": "0.5,0,0.5,1"}, "crop"),
        ({"kk": "5"}, "kk"),
        ({"image_id": "00" * 16}, "image"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(
    client: FlaskClient, check_problem: Check, fields: dict[str, str], named: str
) -> None:
    response = upload(client, **fields)
    check_problem(response, 422)
    assert named in {error["field"] for error in response.get_json()["errors"]}


@pytest.mark.parametrize("folder", ["elsewhere", "/etc", "photos/../..", "../photos"])
def test_a_folder_outside_the_library_is_refused(client: FlaskClient, check_problem: Check, folder: str) -> None:
    assert "outside the library" in check_problem(upload(client, folder=folder), 422)


def test_text_is_no_picture(client: FlaskClient, check_problem: Check) -> None:
    assert "supported format" in check_problem(upload(client, b"hello"), 415)


def test_an_empty_file_is_no_picture(client: FlaskClient, check_problem: Check) -> None:
    assert "empty" in check_problem(upload(client, b""), 422)


def test_a_picture_with_too_many_bytes_is_refused(make_client: MakeClient, check_problem: Check) -> None:
    client = make_client(max_upload_bytes=100)
    assert "MAX_UPLOAD_BYTES" in check_problem(upload(client), 413)
    assert "MAX_UPLOAD_BYTES" in check_problem(upload(client, bytes(200_000)), 413)


def test_a_picture_with_too_many_pixels_is_refused(make_client: MakeClient, check_problem: Check) -> None:
    assert "MAX_IMAGE_PIXELS" in check_problem(upload(make_client(max_image_pixels=100)), 413)


def test_malformed_bodies_are_refused(client: FlaskClient, check_problem: Check) -> None:
    check_problem(client.post("/api/v1/searches", data="{", content_type="application/json"), 400)
    check_problem(client.post("/api/v1/searches", data="x", content_type="multipart/form-data"), 400)
    check_problem(client.post("/api/v1/searches", json=[1]), 422)
    check_problem(client.post("/api/v1/searches", data={"k": "3"}), 415)
    check_problem(client.post("/api/v1/searches", data=b"x", content_type="image/jpeg"), 415)
    check_problem(client.post("/api/v1/searches"), 415)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"image_id": "\\ud800"}', 404),
        (b'{"folder": "\\ud800", "image_id": "00"}', 404),
        (b'{"\\ud800": 1}', 422),
        (b'{"k": 1e999, "image_id": "00"}', 422),
        (b'{"k": ' + b"9" * 5000 + b"}", 400),
        (b"[" * 100_000, 400),
        (b"\xff\xfe", 400),
        (b"null", 422),
    ],
)
def test_hostile_json_is_refused(client: FlaskClient, check_problem: Check, body: bytes, status: int) -> None:
    check_problem(client.post("/api/v1/searches", data=body, content_type="application/json"), status)


def test_a_picture_sent_as_text_is_refused(client: FlaskClient, check_problem: Check) -> None:
    body = {"data": {"image": "picture.jpg"}, "content_type": "multipart/form-data"}
    assert "as a file" in check_problem(client.post("/api/v1/searches", **body), 422)


def test_a_search_needs_a_picture(client: FlaskClient, check_problem: Check) -> None:
    assert "exactly one" in check_problem(client.post("/api/v1/searches", json={"k": 3}), 422)
    multipart = {"data": {"k": "3"}, "content_type": "multipart/form-data"}
    assert "exactly one" in check_problem(client.post("/api/v1/searches", **multipart), 422)


def test_searching_by_address_is_off_unless_enabled(client: FlaskClient, check_problem: Check) -> None:
    body = {"url": "http://example.org/a.jpg"}
    assert "not enabled" in check_problem(client.post("/api/v1/searches", json=body), 422)


def test_too_many_waiting_searches_are_refused_for_now(
    make_client: MakeClient, check_problem: Check, settings: Settings
) -> None:
    client = make_client(max_queued_searches=2)
    taken = [upload(client).get_json()["id"] for _ in range(2)]
    response = upload(client)
    assert "IMAGESEARCH_MAX_QUEUED_SEARCHES" in check_problem(response, 503)
    assert response.headers["Retry-After"] == "5"
    assert search_board(settings).take(taken[0])
    assert upload(client).status_code == 202
    metrics = client.get("/metrics").get_data(as_text=True)
    assert 'imagesearch_queries_total{state="refused"} 1' in metrics


def test_a_search_that_its_client_withdraws_is_not_computed(
    client: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.search_interest.LEAVING_SECONDS", 1)
    url = upload(client).get_json()["url"]
    response = client.delete(url)
    assert (response.status_code, response.data) == (204, b"")
    board, search_id = search_board(settings), url.rsplit("/", 1)[1]
    name = f"imagesearch:search:{search_id}:wanted"
    wait_until(lambda: not client.application.extensions["imagesearch"].client.redis.exists(name), "it is unwanted")
    assert board.take(search_id) is None
    result = client.get(url).get_json()
    assert result["state"] == "failed"
    assert "Nobody waited for this search any more" in result["error"]
    assert 'imagesearch_queries_total{state="abandoned"} 1' in client.get("/metrics").get_data(as_text=True)


def test_a_withdrawn_search_is_computed_for_whoever_asks_after_all(
    client: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.search_interest.LEAVING_SECONDS", 1)
    url = upload(client).get_json()["url"]
    client.delete(url)
    assert client.get(url).get_json()["state"] == "queued"
    time.sleep(1.2)
    assert search_board(settings).take(url.rsplit("/", 1)[1]) is not None


@pytest.mark.parametrize("search_id", ["0" * 24, "x:finished"])
def test_an_unknown_search_cannot_be_withdrawn(client: FlaskClient, check_problem: Check, search_id: str) -> None:
    assert "expired" in check_problem(client.delete(f"/api/v1/searches/{search_id}"), 404)


@pytest.mark.parametrize("search_id", ["0" * 24, "x:finished", "a b", "%00"])
def test_an_unknown_search_is_not_found(client: FlaskClient, check_problem: Check, search_id: str) -> None:
    assert "expired" in check_problem(client.get(f"/api/v1/searches/{search_id}"), 404)


def test_the_list_behind_a_search_is_no_search(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    search_id = upload(client).get_json()["id"]
    answer_search(settings, search_id)
    assert client.get(f"/api/v1/searches/{search_id}:finished").status_code == 404


def test_waiting_ends_as_soon_as_the_search_is_answered(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    url = upload(client).get_json()["url"]
    answering = threading.Timer(0.3, answer_search, [settings, url.rsplit("/", 1)[1]])
    answering.start()
    started = time.monotonic()
    result = client.get(f"{url}?wait=20").get_json()
    assert result["state"] == "done"
    assert 0.2 < time.monotonic() - started < 10
    answering.join()


def test_waiting_ends_with_its_time(client: FlaskClient) -> None:
    started = time.monotonic()
    result = client.get(f"{upload(client).get_json()['url']}?wait=0.3").get_json()
    assert result["state"] == "queued"
    assert 0.25 < time.monotonic() - started < 5


def test_many_waiting_requests_leave_threads_for_others(client: FlaskClient) -> None:
    services = client.application.extensions["imagesearch"]
    with services.waiting(20) as first:
        others = [services._waiting.acquire(blocking=False) for _ in range(23)]
        with services.waiting(20) as last:
            assert (first, last) == (20, 0.5)
    assert all(others)


@pytest.mark.parametrize("wait", ["31", "-1", "soon"])
def test_a_wait_out_of_range_is_refused(client: FlaskClient, check_problem: Check, wait: str) -> None:
    assert "wait" in check_problem(client.get(f"/api/v1/searches/{'0' * 24}?wait={wait}"), 422)


def test_a_failed_search_says_why(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    accepted = upload(client).get_json()
    answer_search(settings, accepted["id"], error="The image is damaged.")
    result = client.get(accepted["url"]).get_json()
    assert (result["state"], result["error"], result["results"]) == ("failed", "The image is damaged.", [])


def test_redis_being_away_is_said(make_client: MakeClient, check_problem: Check) -> None:
    client = make_client(redis_url="redis://localhost:1/0")
    for response in (upload(client), client.get(f"/api/v1/searches/{'0' * 24}")):
        assert "Redis is not reachable" in check_problem(response, 503)
        assert response.headers["Retry-After"]
