"""What was searched for, as the API tells and shows it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from common.settings import Settings
from tests.unit.web.building import answer_search, index_files, picture_bytes

Check = Callable[[TestResponse, int], str]


def search(client: FlaskClient, *pictures: bytes, **fields: str) -> str:
    """Submits a search for pictures. Gives the address of its result."""
    files = [(io.BytesIO(picture), "picture.jpg") for picture in pictures]
    response = client.post("/api/v1/searches", data={"image": files, **fields}, content_type="multipart/form-data")
    assert response.status_code == 202, response.get_data(as_text=True)
    return str(response.get_json()["url"])


def read(client: FlaskClient, url: str) -> dict[str, Any]:
    """The result at an address."""
    body: dict[str, Any] = client.get(url).get_json()
    return body


def test_the_result_tells_what_was_searched_for(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    url = search(client, picture_bytes(), k="7", folder="photos", min_score="-0.5", crop="0,0.25,0.5,1")
    expected = {
        "images": [{"image_id": None, "weight": 1, "picture_url": f"{url}/pictures/0"}],
        "crop": [0, 0.25, 0.5, 1],
        "folder": "photos",
        "k": 7,
        "min_score": -0.5,
    }
    queued = read(client, url)
    assert (queued["state"], queued["query"]) == ("queued", expected)
    answer_search(settings, url.rsplit("/", 1)[1])
    done = read(client, url)
    assert (done["state"], done["query"]) == ("done", expected)


def test_an_indexed_picture_is_shown_by_its_thumbnail(client: FlaskClient, settings: Settings, library: Path) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    url = client.post("/api/v1/searches", json={"image_id": entry.image_id}).get_json()["url"]
    query = read(client, url)["query"]
    thumbnail = f"/api/v1/images/{entry.image_id}/thumbnail"
    assert query["images"] == [{"image_id": entry.image_id, "weight": 1, "picture_url": thumbnail}]
    assert (query["crop"], query["folder"], query["k"], query["min_score"]) == (None, None, 30, None)


def test_the_whole_picture_is_shown_once_the_search_is_done(
    client: FlaskClient, settings: Settings, library: Path, check_problem: Check
) -> None:
    index_files(settings, library, ["a.jpg"])
    url = search(client, picture_bytes("navy", (2048, 1024)), crop="0,0,0.1,0.1")
    (picture,) = read(client, url)["query"]["images"]
    assert "no preview" in check_problem(client.get(picture["picture_url"]), 404)
    answer_search(settings, url.rsplit("/", 1)[1])
    response = client.get(picture["picture_url"])
    assert (response.status_code, response.mimetype) == (200, "image/jpeg")
    assert "private" in response.headers["Cache-Control"]
    with Image.open(io.BytesIO(response.data)) as image:
        assert image.size == (1024, 512)
    again = client.get(picture["picture_url"], headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_the_next_page_shows_the_pictures_of_the_first(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg", "b.jpg", "c.jpg"])
    url = search(client, picture_bytes(), picture_bytes("navy"), weights="1,-0.5", k="2")
    answer_search(settings, url.rsplit("/", 1)[1])
    first = read(client, url)
    body = {"cursor": first["next_cursor"]}
    second = read(client, client.post("/api/v1/searches", json=body).get_json()["url"])
    assert second["query"] == first["query"]
    assert [picture["weight"] for picture in second["query"]["images"]] == [1, -0.5]
    for picture in second["query"]["images"]:
        assert client.get(picture["picture_url"]).status_code == 200
    answer_search(settings, second["id"])
    results = read(client, f"/api/v1/searches/{second['id']}")["results"]
    assert [(hit["rank"], hit["path"]) for hit in results] == [(3, "photos/c.jpg")]


def test_of_a_search_that_failed_nothing_is_promised(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    url = search(client, picture_bytes())
    answer_search(settings, url.rsplit("/", 1)[1], error="The image is damaged.")
    assert read(client, url)["query"]["images"] == [{"image_id": None, "weight": 1, "picture_url": None}]


@pytest.mark.parametrize("path", [f"{'0' * 24}/pictures/0", "a%20b/pictures/0", f"{'0' * 24}/pictures/99999999999"])
def test_an_unknown_picture_is_not_found(client: FlaskClient, check_problem: Check, path: str) -> None:
    assert "no preview" in check_problem(client.get(f"/api/v1/searches/{path}"), 404)


@pytest.mark.parametrize("number", ["-1", "first", ""])
def test_a_picture_has_a_number(client: FlaskClient, check_problem: Check, number: str) -> None:
    check_problem(client.get(f"/api/v1/searches/{'0' * 24}/pictures/{number}"), 404)


def test_results_tell_their_content_and_percentile(client: FlaskClient, settings: Settings, library: Path) -> None:
    entries = index_files(settings, library, [f"{number}.jpg" for number in range(12)])
    url = search(client, picture_bytes())
    answer_search(settings, url.rsplit("/", 1)[1])
    results = read(client, url)["results"]
    assert {hit["content_hash"] for hit in results} == {entry.record.content_hash.hex() for entry in entries}
    percentiles = [hit["percentile"] for hit in results]
    assert percentiles == sorted(percentiles, reverse=True)
    assert all(0 <= percentile <= 100 for percentile in percentiles)
