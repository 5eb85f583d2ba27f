"""The product as a person meets it: folder indexed on the page, picture dropped, similar ones found. Nothing played."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from benchmarks.system import System, running_web
from common.settings import Settings
from common.up.sample import make_sample_library
from tests.browser.pages import FoldersPage, SearchPage, Watch, wait_for

VISIBLE_THUMBNAILS_ARE_LOADED = """() => [...document.querySelectorAll(".tile img")]
  .filter((image) => image.getBoundingClientRect().top < innerHeight)
  .every((image) => image.complete && image.naturalWidth)"""


@pytest.fixture
def system(settings: Settings, fast_model: Path, library: Path, tmp_path: Path) -> Iterator[System]:
    """A system with real workers and a library of generated pictures."""
    make_sample_library(library / "samples", lambda _: None)
    system = System(settings.model_copy(update={"model": str(fast_model), "batch_seconds": 0.05}), tmp_path)
    bulk = system.start_worker("bulk", ready=False)
    system.start_worker("query")
    bulk.wait_ready()
    yield system
    system.kill()


def test_a_folder_is_indexed_and_its_pictures_are_found(system: System, page: Page, library: Path) -> None:
    with running_web(system.settings) as address:
        watch = Watch(page, address)
        folders = FoldersPage(page, address).open()
        folders.index(str(library))
        expect(folders.jobs.first).to_contain_text("done", timeout=60_000)
        count = len([path for path in library.rglob("*") if path.is_file()])
        expect(page.get_by_text(f"{count:,} files").first).to_be_visible()

        search = SearchPage(page, address).open()
        picture = sorted(library.rglob("hills-*.jpg"))[7]
        search.drop(picture)
        search.expect_results(40)
        assert search.paths()[0] == f"photos/{picture.relative_to(library).as_posix()}"
        # The percentile, or the cosine as long as that is not known.
        expect(search.tiles.first).to_contain_text(re.compile(r"100 %|1\.000"))
        wait_for(page, VISIBLE_THUMBNAILS_ARE_LOADED)

        search.tiles.nth(1).click()
        expect(search.viewer).to_be_visible()
        second = search.paths()[1]
        search.viewer.get_by_role("link", name="More like this").click()
        expect(search.viewer).to_be_hidden()
        expect(page.locator("#grid .tile-name").first).to_have_attribute("title", second)
        assert watch.problems == []
