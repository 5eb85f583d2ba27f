"""The search page as it arrives: empty, with results, with a search that waits, has failed or has expired."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from common.settings import Settings
from tests.unit.web.building import answer_search, index_files, picture_bytes, report_worker

MakeClient = Callable[..., FlaskClient]


def submit(client: FlaskClient, **options: object) -> str:
    """Submits a search for an indexed picture. Gives its id."""
    image = client.get("/api/v1/images?limit=1").get_json()["images"][0]
    answer = client.post("/api/v1/searches", json={"image_id": image["image_id"], **options})
    return str(answer.get_json()["id"])


def page_of(client: FlaskClient, search_id: str, status: int = 200) -> str:
    """The page of a search."""
    answer = client.get(f"/search/{search_id}")
    assert answer.status_code == status
    return answer.get_data(as_text=True)


def block(page: str) -> dict[str, Any]:
    """The result that came with a page."""
    found = re.search(r'<script type="application/json" id="result">(.*?)</script>', page, re.DOTALL)
    assert found
    result: dict[str, Any] = json.loads(found[1])
    return result


def test_finished_search_arrives_with_its_tiles(client: FlaskClient, settings: Settings, library: Path) -> None:
    names = [f"<b>{number:02}.jpg" for number in range(30)]
    for number, name in enumerate(names):
        (library / name).write_bytes(picture_bytes(size=(40 + number, 30)))
    index_files(settings, library, names)
    search_id = submit(client)
    answer_search(settings, search_id)
    page = page_of(client, search_id)
    tiles = re.findall(r'<li class="tile" data-id="([0-9a-f]{32})">', page)
    result = block(page)
    assert tiles == [hit["image_id"] for hit in result["results"][:24]]
    assert result == client.get(f"/api/v1/searches/{search_id}").get_json()
    assert 'title="photos/&lt;b&gt;00.jpg"' in page
    assert "<b>" not in page
    assert 'width="40" height="30"' in page


def test_exact_duplicates_are_one_tile(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, [f"{number}.jpg" for number in range(5)])  # all with the same bytes
    search_id = submit(client)
    answer_search(settings, search_id)
    page = page_of(client, search_id)
    assert page.count('<li class="tile" data-id=') == 1
    assert len(block(page)["results"]) == 5


def test_search_that_waits_arrives_with_its_query(client: FlaskClient, settings: Settings, library: Path) -> None:
    entries = index_files(settings, library, ["a.jpg"])
    page = page_of(client, submit(client))
    result = block(page)
    assert result["state"] == "queued"
    assert result["query"]["images"][0]["image_id"] == entries[0].image_id
    assert 'data-state="pending"' in page


def test_unknown_search_is_not_found_with_a_way_on(client: FlaskClient) -> None:
    for search_id in ("0123456789abcdef01234567", "a%20b", "x" * 100):
        page = page_of(client, search_id, 404)
        assert "<h2>This search has expired</h2>" in page
        assert '<a class="button primary" href="/">New search</a>' in page


def test_search_without_redis_is_left_to_the_script(make_client: MakeClient) -> None:
    page = page_of(make_client(redis_url="redis://localhost:1/0"), "0123456789abcdef01234567")
    assert "data-expired" not in page
    assert "Redis is not reachable" in page


def test_pictures_to_start_from_are_taken_from_everywhere(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    index_files(settings, library, [f"{number:02}.jpg" for number in range(40)])
    report_worker(settings)
    seen: set[str] = set()
    for _ in range(20):
        shown = re.findall(r'<li class="tile" data-id="([0-9a-f]{32})">', client.get("/").get_data(as_text=True))
        assert len(set(shown)) == len(shown) == 12
        seen.update(shown)
    assert len(seen) > 30


def test_addresses_can_be_typed_only_where_they_are_fetched(make_client: MakeClient) -> None:
    assert 'id="address"' not in make_client().get("/").get_data(as_text=True)
    page = make_client(allow_url_queries=True).get("/").get_data(as_text=True)
    assert 'id="address"' in page
    assert 'data-url-queries="true"' in page


def test_roots_of_the_folder_filter_arrive_with_the_page(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    index_files(settings, library, ["a/1.jpg", "b/2.jpg"])
    page = client.get("/").get_data(as_text=True)
    root = re.search(r'<li class="folder" data-path="photos">.*?</li>', page, re.DOTALL)
    assert root
    assert re.search(r"data-images>2<", root[0])
    assert "hidden>" not in root[0].partition("folder-name")[0], "it can be opened"
