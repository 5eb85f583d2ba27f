"""Folders, and the images directly in them, through the API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.settings import Settings
from tests.unit.web.building import index_files

Check = Callable[[TestResponse, int], str]
FOLDERS = "/api/v1/folders"
IMAGES = "/api/v1/images"


def listed(client: FlaskClient, **query: Any) -> Any:
    response = client.get(FOLDERS, query_string=query)
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.get_json()


def direct(client: FlaskClient, folder: str, **query: Any) -> Any:
    response = client.get(IMAGES, query_string={"folder": folder, "direct": "true", **query})
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.get_json()


def test_no_folders_before_any_model_is_resolved(client: FlaskClient) -> None:
    assert listed(client) == {"parent": None, "images": 0, "folders": [], "next_cursor": None}
    assert listed(client, parent="photos")["parent"] == "photos"
    assert direct(client, "photos") == {"images": [], "next_cursor": None}


def test_the_tree_from_the_roots_down(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg", "b/c.jpg", "b/d/e.jpg", "b/d/f.jpg", "bc/g.jpg"])
    assert listed(client) == {
        "parent": None,
        "images": 5,
        "folders": [{"path": "photos", "name": "photos", "images": 5, "has_folders": True}],
        "next_cursor": None,
    }
    below = listed(client, parent="photos")
    assert below["folders"] == [
        {"path": "photos/b", "name": "b", "images": 3, "has_folders": True},
        {"path": "photos/bc", "name": "bc", "images": 1, "has_folders": False},
    ]
    for parent in ("photos/b", "photos/b/", str(library / "b")):
        page = listed(client, parent=parent)
        assert (page["parent"], page["images"]) == ("photos/b", 3)
        assert [folder["name"] for folder in page["folders"]] == ["d"]
    assert [image["path"] for image in direct(client, "photos")["images"]] == ["photos/a.jpg"]
    assert [image["path"] for image in direct(client, "photos/b")["images"]] == ["photos/b/c.jpg"]


def test_images_directly_above_the_roots_there_are_none(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    assert client.get(f"{IMAGES}?direct=true").get_json() == {"images": [], "next_cursor": None}
    assert len(client.get(f"{IMAGES}?direct=false").get_json()["images"]) == 1


def test_a_folder_without_indexed_images_is_empty(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    (library / "later").mkdir()
    for parent in ("photos/later", "photos/a.jpg", "photos/nothing"):
        assert listed(client, parent=parent) == {"parent": parent, "images": 0, "folders": [], "next_cursor": None}


@pytest.mark.parametrize("name", ["100%", 'say "hi"', "line\nbreak", "größe", "日本", "🐈", "a+b&c=d", "a b", "#1?"])
def test_any_name_is_just_a_name(client: FlaskClient, settings: Settings, library: Path, name: str) -> None:
    index_files(settings, library, [f"{name}/{name}/x.jpg", f"{name}/y.jpg", "z/z.jpg"])
    folders = {folder["name"]: folder for folder in listed(client, parent="photos")["folders"]}
    assert folders.keys() == {name, "z"}
    path = folders[name]["path"]
    assert listed(client, parent=path)["folders"][0]["path"] == f"photos/{name}/{name}"
    assert [image["path"] for image in direct(client, path)["images"]] == [f"photos/{name}/y.jpg"]


def test_pages_follow_each_other_to_the_end(client: FlaskClient, settings: Settings, library: Path) -> None:
    names = ["a", "a.b", "b", "ä", "🐈"]
    index_files(settings, library, [f"{name}/{n}.jpg" for name in names for n in "12"] + [f"{n}.jpg" for n in "abcde"])
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for size in (2, 2, 1):
        page = listed(client, parent="photos", limit=2, **cursor)
        assert (len(page["folders"]), page["images"]) == (size, 15)
        seen += [folder["name"] for folder in page["folders"]]
        cursor = {"cursor": page["next_cursor"]}
    assert cursor == {"cursor": None}
    assert seen == ["a.b", "a", "b", "ä", "🐈"]  # as their images are listed: "." sorts before "/"

    images: list[str] = []
    cursor = {}
    for size in (2, 2, 1):
        page = direct(client, "photos", limit=2, **cursor)
        assert len(page["images"]) == size
        images += [image["path"] for image in page["images"]]
        cursor = {"cursor": page["next_cursor"]}
    assert cursor == {"cursor": None}
    assert images == [f"photos/{n}.jpg" for n in "abcde"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "cursor=!!", "parent=/etc", "parent=photos/../..", "parent=other"]
)
def test_values_that_cannot_be_used_are_refused(client: FlaskClient, check_problem: Check, query: str) -> None:
    check_problem(client.get(f"{FOLDERS}?{query}"), 422)
