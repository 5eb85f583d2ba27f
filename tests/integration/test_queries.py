"""Several pictures as one query, pages of results, and near-duplicates, with real workers."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image

from benchmarks.system import System, environment
from common.cli.app import run
from common.errors import UnknownPicture
from common.messages import QueryImage, SearchQuery, SearchResult
from common.store import image_id, open_store
from tests.integration.conftest import fill
from tests.pictures import photo

T = TypeVar("T")


def answer(running: System, submitted: SearchResult) -> SearchResult:
    result = running.client.search(submitted.id, wait_seconds=30)
    assert result.state == "done", result.error
    return result


def test_several_pictures_are_one_query(running: System, pictures: Path) -> None:
    running.index("photos")
    paths = sorted(pictures.rglob("*.jpg"))[:3]
    weights = (1.0, 1.0, -0.5)
    uploads = [path.read_bytes() for path in paths]
    images = tuple(QueryImage(weight=weight) for weight in weights)
    result = answer(running, running.client.submit_search(SearchQuery(images=images, k=5), uploads))

    store = open_store(running.settings)
    store.refresh()
    entries = [store.entry(image_id(f"photos/{path.relative_to(pictures).as_posix()}")) for path in paths]
    query = np.asarray(weights) @ np.stack([store.feature(entry).astype(np.float64) for entry in entries])
    query /= np.linalg.norm(query)
    best = result.results[0]
    stored = store.feature(store.entry(best.image_id)).astype(np.float64)
    assert best.score == pytest.approx(stored @ query / np.linalg.norm(stored), abs=0.01)
    assert {hit.path for hit in result.results[:2]} == {entry.path for entry in entries[:2]}

    named = tuple(
        QueryImage(image_id=entry.image_id, weight=weight) for entry, weight in zip(entries, weights, strict=True)
    )
    again = answer(running, running.client.submit_search(SearchQuery(images=named, k=5)))
    assert [hit.path for hit in again.results[:2]] == [hit.path for hit in result.results[:2]]
    assert "embed" not in again.took_ms


def eventually(call: Callable[[], T | None]) -> T:
    """What a call gives as soon as it gives something."""
    deadline = time.monotonic() + 30
    while (found := call()) is None:
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


def test_a_search_shows_its_picture_and_what_its_scores_are_worth(running: System, pictures: Path) -> None:
    running.index("photos")
    upload = sorted(pictures.rglob("*.jpg"))[0].read_bytes()
    large = io.BytesIO()
    photo(7, (2000, 1500)).save(large, "JPEG")
    uploads = (QueryImage(), QueryImage(weight=0.5))
    query = SearchQuery(images=uploads, k=5, folder="photos/holiday")
    result = answer(running, running.client.submit_search(query, [upload, large.getvalue()]))
    addresses = [f"/api/v1/searches/{result.id}/pictures/{number}" for number in (0, 1)]
    assert [image.picture_url for image in result.query.images] == addresses
    assert (result.query.k, result.query.folder) == (5, "photos/holiday")

    def preview(number: int) -> bytes | None:
        with suppress(UnknownPicture):
            return running.client.query_picture(result.id, number)
        return None

    sizes = []
    for number in (0, 1):
        with Image.open(io.BytesIO(eventually(lambda number=number: preview(number)))) as image:  # type: ignore[misc]
            sizes.append(image.size)
    assert sizes == [(320, 240), (1024, 768)]

    def calibrated() -> SearchResult | None:
        found = answer(running, running.client.submit_search(SearchQuery(k=40), [upload]))
        return found if found.results[0].percentile is not None else None

    results = eventually(calibrated).results
    assert results[0].content_hash == sha256(upload).hexdigest()
    percentiles = [hit.percentile or 0 for hit in results]
    assert percentiles == sorted(percentiles, reverse=True)
    assert percentiles[0] > 99
    assert percentiles[-1] < 50


def test_pages_go_on_while_pictures_come_and_go(running: System, pictures: Path) -> None:
    running.index("photos")
    upload = sorted(pictures.rglob("*.jpg"))[0].read_bytes()
    whole = answer(running, running.client.submit_search(SearchQuery(k=40), [upload])).results
    page = answer(running, running.client.submit_search(SearchQuery(k=9), [upload]))
    seen = list(page.results)
    fill(pictures / "late", range(300, 305))
    (pictures / whole[0].path.removeprefix("photos/")).unlink()
    running.index("photos")
    while page.next_cursor is not None:
        page = answer(running, running.client.continue_search(page.next_cursor, 7))
        assert "embed" not in page.took_ms
        seen += page.results
    old = [hit.path for hit in seen if "/late/" not in hit.path]
    assert old == [hit.path for hit in whole]
    assert [hit.rank for hit in seen] == list(range(1, len(seen) + 1))
    order = [(-hit.score, hit.path) for hit in seen]
    assert order == sorted(order)
    assert page.indexed == 44


def test_duplicates_are_found_by_the_maintenance_worker(
    running: System, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = pictures / "holiday" / "0003.jpg"
    shutil.copy(original, pictures / "copy.jpg")
    with Image.open(original) as image:
        image.save(pictures / "again.jpg", quality=70)
    running.index("photos")
    running.start_worker("maintenance")
    for name, value in environment(running.settings).items():
        monkeypatch.setenv(name, value)
    assert run(["duplicates", "--min-score", "0.999", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["state"], document["done"], document["total"]) == ("done", 42, 42)
    groups = [{image["path"] for image in group["images"]} for group in document["groups"]]
    assert {"photos/copy.jpg", "photos/again.jpg", "photos/holiday/0003.jpg"} in groups
    assert all(0.999 - 1e-6 <= group["lowest_score"] <= group["best_score"] <= 1 for group in document["groups"])
