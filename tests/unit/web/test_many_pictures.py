"""Searches for several pictures, and the pages of a search, through the API."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.messages import QueryImage, SearchPosition, SearchQuery
from common.searches import QueryFeature, TakenSearch
from common.settings import Settings
from common.store import open_store
from tests.unit.web.building import answer_search, hits, index_files, picture_bytes, search_board

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]
PICTURES = [picture_bytes("teal"), picture_bytes("navy"), picture_bytes("olive")]


def upload(client: FlaskClient, pictures: list[bytes], **fields: Any) -> TestResponse:
    """Submits a search for several pictures."""
    files = [(io.BytesIO(picture), f"{number}.jpg") for number, picture in enumerate(pictures)]
    return client.post(
        "/api/v1/searches", data={"image": files, **fields} if files else fields, content_type="multipart/form-data"
    )


def taken(settings: Settings, response: TestResponse) -> TakenSearch:
    """What a worker gets of a search that was accepted."""
    assert response.status_code == 202, response.get_data(as_text=True)
    search = search_board(settings).take(response.get_json()["id"])
    assert search is not None
    return search


# --- several pictures --------------------------------------------------------------------------------------------


def test_several_uploads_reach_the_worker_with_their_weights(client: FlaskClient, settings: Settings) -> None:
    search = taken(settings, upload(client, PICTURES, weights="1, 0.5,-0.5", k="7"))
    assert search.uploads == tuple(PICTURES)
    assert [image.weight for image in search.record.query.pictures] == [1, 0.5, -0.5]
    assert search.record.query.k == 7


def test_uploads_without_weights_count_the_same(client: FlaskClient, settings: Settings) -> None:
    search = taken(settings, upload(client, PICTURES[:2], weights=""))
    assert search.record.query.images == (QueryImage(), QueryImage())


def test_stored_pictures_are_named_with_their_weights(client: FlaskClient, settings: Settings, library: Path) -> None:
    first, second = index_files(settings, library, ["a.jpg", "b.jpg"])
    images = [{"image_id": first.image_id}, {"image_id": second.image_id, "weight": -0.5}]
    query = taken(settings, client.post("/api/v1/searches", json={"images": images})).record.query
    assert query.pictures == (
        QueryImage(image_id=first.image_id),
        QueryImage(image_id=second.image_id, weight=-0.5),
    )


def test_a_form_may_hold_uploads_and_stored_pictures(client: FlaskClient, settings: Settings, library: Path) -> None:
    stored = index_files(settings, library, ["a.jpg"])[0].image_id
    images = json.dumps([{"image_id": stored, "weight": 2}])
    search = taken(settings, upload(client, PICTURES[:1], images=images))
    assert search.record.query.pictures == (QueryImage(), QueryImage(image_id=stored, weight=2))
    assert search.uploads == (PICTURES[0],)
    alone = taken(settings, upload(client, [], images=images))
    assert (alone.record.query.pictures, alone.uploads) == ((QueryImage(image_id=stored, weight=2),), ())


def test_as_many_pictures_as_allowed_are_accepted(client: FlaskClient, settings: Settings) -> None:
    fields = {"k": "3", "folder": "photos", "min_score": "0", "weights": ",".join(["1"] * 16)}
    search = taken(settings, upload(client, PICTURES[:1] * 16, **fields))
    assert len(search.uploads or ()) == 16


@pytest.mark.parametrize(
    ("count", "fields", "named"),
    [
        (17, {}, "image"),
        (2, {"weights": "1"}, "weights"),
        (2, {"weights": "1,2,3"}, "weights"),
        (2, {"weights": "1,much"}, "weights"),
        (2, {"weights": "1,nan"}, "weights"),
        (2, {"weights": "1,inf"}, "weights"),
        (2, {"weights": "1,10.5"}, "weights"),
        (2, {"weights": "-1,0"}, "images"),
        (1, {"weights": "-1"}, "images"),
        (2, {"crop": "0,0,0.5,0.5"}, "crop"),
        (1, {"images": "a.jpg"}, "images"),
        (1, {"images": "[" * 5000}, "images"),
        (1, {"images": '[{"image_id": "00", "wait": 1}]'}, "images"),
        (1, {"images": '[{"weight": 1}]'}, "images"),
        (1, {"image_id": "00" * 16}, "image"),
        (1, {"cursor": "00" * 12}, "image"),
        (0, {"weights": "1"}, "image"),
    ],
)
def test_what_makes_no_query_is_named(
    client: FlaskClient, check_problem: Check, count: int, fields: dict[str, str], named: str
) -> None:
    response = upload(client, PICTURES[:1] * count, **fields)
    check_problem(response, 422)
    assert named in {error["field"] for error in response.get_json()["errors"]}


@pytest.mark.parametrize(
    "body",
    [
        {"images": []},
        {"images": [{"image_id": "00"}] * 17},
        {"images": [{"image_id": "00", "weight": "NaN"}]},
        {"images": "00"},
        {"images": [{"image_id": "00"}], "image_id": "00"},
        {"image_id": "00", "weights": [1]},
        {"image": "00"},
    ],
)
def test_json_that_makes_no_query_is_refused(client: FlaskClient, check_problem: Check, body: dict[str, Any]) -> None:
    check_problem(client.post("/api/v1/searches", json=body), 422)


def test_only_avoiding_is_refused(client: FlaskClient, settings: Settings, library: Path, check_problem: Check) -> None:
    stored = index_files(settings, library, ["a.jpg"])[0].image_id
    body = {"images": [{"image_id": stored, "weight": -1}]}
    assert "at least one weight must be positive" in check_problem(client.post("/api/v1/searches", json=body), 422)


def test_each_picture_is_checked(client: FlaskClient, settings: Settings, library: Path, check_problem: Check) -> None:
    stored = index_files(settings, library, ["a.jpg"])[0].image_id
    assert "supported format" in check_problem(upload(client, [PICTURES[0], b"text"]), 415)
    assert "empty" in check_problem(upload(client, [b"", PICTURES[0]]), 422)
    body = {"images": [{"image_id": stored}, {"image_id": "00" * 16}]}
    assert "00" * 16 in check_problem(client.post("/api/v1/searches", json=body), 404)


def test_all_pictures_together_have_the_limit_of_one(make_client: MakeClient, check_problem: Check) -> None:
    size = 50_000
    client = make_client(max_upload_bytes=size)
    picture = PICTURES[0] + bytes(size - len(PICTURES[0]))
    assert upload(client, [picture]).status_code == 202
    assert "MAX_UPLOAD_BYTES" in check_problem(upload(client, [picture] * 3), 413)


# --- pages -------------------------------------------------------------------------------------------------------


def finish_page(settings: Settings, search_id: str) -> SearchPosition:
    """Plays the query worker for a search that has more results. Gives where its page ends."""
    board, store = search_board(settings), open_store(settings)
    search = board.take(search_id)
    assert search is not None
    results = hits(store, 2)
    changes = {"state": "done", "results": results, "next_cursor": search_id}
    board.finish(search.record, search.record.result.model_copy(update=changes), QueryFeature("model", b"1234"))
    last = results[-1]
    return SearchPosition(search_id=search_id, rank=last.rank, score=last.score, path=last.path)


@pytest.fixture
def first(client: FlaskClient, settings: Settings, library: Path) -> tuple[str, SearchPosition]:
    """The cursor of a search that is done, and where its page ends."""
    index_files(settings, library, ["a.jpg", "b.jpg", "c.jpg"])
    url = upload(client, PICTURES[:1], k="2", min_score="-0.5", folder="photos").get_json()["url"]
    position = finish_page(settings, url.rsplit("/", 1)[1])
    cursor = client.get(url).get_json()["next_cursor"]
    assert cursor
    return cursor, position


def test_a_cursor_gives_the_next_page(
    client: FlaskClient, settings: Settings, first: tuple[str, SearchPosition]
) -> None:
    cursor, position = first
    search = taken(settings, client.post("/api/v1/searches", json={"cursor": cursor}))
    assert search.record.query == SearchQuery(k=2, min_score=-0.5, folder="photos", after=position)
    assert (search.uploads, search.feature) == ((), QueryFeature("model", b"1234"))
    other = taken(settings, upload(client, [], cursor=cursor, k="500"))
    assert other.record.query.k == 500


def test_a_search_that_has_shown_all_has_no_cursor(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    url = upload(client, PICTURES[:1]).get_json()["url"]
    assert client.get(url).get_json()["next_cursor"] is None
    answer_search(settings, url.rsplit("/", 1)[1])
    assert client.get(url).get_json()["next_cursor"] is None


def test_a_cursor_that_is_unknown_expired_or_forged_is_refused(
    client: FlaskClient, settings: Settings, check_problem: Check, first: tuple[str, SearchPosition]
) -> None:
    def answer(cursor: Any) -> TestResponse:
        return client.post("/api/v1/searches", json={"cursor": cursor})

    assert "expired" in check_problem(answer("0" * 24), 404)
    for forged in ("", "a b", "x:finished", "\ud800", "a" * 65):
        assert "next_cursor" in check_problem(answer(forged), 422)
    check_problem(answer(5), 422)
    unfinished = upload(client, PICTURES[:1]).get_json()["id"]
    assert "next_cursor" in check_problem(answer(unfinished), 422)
    search_board(settings)._redis.delete(f"imagesearch:search:{first[0]}:feature")
    assert "expired" in check_problem(answer(first[0]), 404)


@pytest.mark.parametrize("option", [{"folder": "photos"}, {"min_score": 0}, {"crop": [0, 0, 1, 1]}])
def test_a_next_page_has_the_options_of_the_first(
    client: FlaskClient, check_problem: Check, first: tuple[str, SearchPosition], option: dict[str, Any]
) -> None:
    response = client.post("/api/v1/searches", json={"cursor": first[0], **option})
    assert "only k" in check_problem(response, 422)
    assert [error["field"] for error in response.get_json()["errors"]] == list(option)
