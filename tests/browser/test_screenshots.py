"""Takes pictures of every page and state, on a phone and a wide screen, light and dark, for people to look at."""

from __future__ import annotations

import re
from pathlib import Path

import redis
from playwright.sync_api import Page, expect

from common.models import ModelSpec
from common.progress import JobBoard
from common.redis_client import key
from common.settings import Settings
from tests.browser.conftest import PICTURES, PlayedWorker
from tests.browser.pages import FoldersPage, SearchPage, Watch, overflows
from tests.unit.web.building import SPEC, index_files, report_worker

FOLDER = Path(__file__).parents[2] / "build" / "screenshots"


def shoot(page: Page, name: str) -> None:
    """Writes the four pictures of one state; it must not scroll sideways in any."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for width, height in ((390, 844), (1440, 900)):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            page.wait_for_timeout(150)
            assert not overflows(page), name
            path = FOLDER / f"{name}-{width}-{scheme}.png"
            page.screenshot(path=path)
            assert path.stat().st_size > 0


def test_search(search_page: SearchPage, pictures: list[Path], worker: PlayedWorker, watch: Watch) -> None:
    page = search_page.open().page
    expect(page.locator('[data-field="images"]')).to_have_text(str(PICTURES))
    shoot(page, "search-home")
    search_page.choose(pictures[7])
    search_page.expect_results(PICTURES)
    page.wait_for_load_state("networkidle")
    shoot(page, "search-results")
    search_page.tiles.nth(2).click()
    expect(search_page.viewer.locator("#viewer-image")).to_have_attribute("src", re.compile("original$"))
    shoot(page, "search-viewer")
    search_page.page.keyboard.press("Escape")
    worker.error = "The image is damaged and cannot be decoded: broken data stream."
    search_page.choose(pictures[1])
    expect(search_page.message).to_be_visible()
    shoot(page, "search-failed")
    search_page.open("/search/0123456789abcdef01234567")
    expect(search_page.message).to_contain_text("expired")
    shoot(page, "search-expired")
    page.dispatch_event("body", "dragenter", {"dataTransfer": page.evaluate_handle("new DataTransfer()")})
    shoot(page, "search-drop")
    watch.forget_failed_answers()


def test_search_without_pictures(search_page: SearchPage) -> None:
    shoot(search_page.open().page, "search-empty")


def test_search_that_waits(search_page: SearchPage, pictures: list[Path], settings: Settings) -> None:
    index_files(settings, pictures[0].parents[1], ["beach/picture-00.jpg"], spec=_untrained())
    search_page.open().choose(pictures[0])
    expect(search_page.page.locator("#results-note")).to_contain_text("imagesearch worker")
    shoot(search_page.page, "search-waiting-untrained")


def test_folders(folders_page: FoldersPage, pictures: list[Path], settings: Settings) -> None:
    client = redis.Redis.from_url(settings.redis_url)
    board = JobBoard(client)
    shoot(folders_page.open().page, "folders-empty")
    for folder, state in (("photos/city", "done"), ("photos/beach", "paused"), ("photos", "running")):
        job_id = board.create(folder).id
        plan = board.start_plan(job_id)
        board.add(job_id, {"found": 12480, "unchanged": 480, "total": 12000})
        board.finish_scan(job_id, plan)
        done = 11998 if state == "done" else 7300
        failed = {f"{folder}/broken {n}.jpg": "The image is damaged and cannot be decoded: truncated" for n in (1, 2)}
        board.finish_batch(job_id, plan, "b", done=done, failed=failed, duplicates=12)
        if state == "paused":
            board.control(job_id, "paused")
    client.hset(key("job", job_id), "started_at", "1763800000")
    report_worker(settings)
    report_worker(settings, queue="bulk", state="busy", images_per_second=14.2)
    folders_page.open()
    expect(folders_page.jobs).to_have_count(3)
    folders_page.jobs.first.locator("summary").click()
    expect(folders_page.jobs.first.locator(".failures li")).to_have_count(2)
    shoot(folders_page.page, "folders")


def test_reference(search_page: SearchPage) -> None:
    shoot(search_page.open("/api/docs").page, "api")
    search_page.page.locator("#create-search").scroll_into_view_if_needed()
    shoot(search_page.page, "api-searches")


def test_page_that_is_not_there(search_page: SearchPage, watch: Watch) -> None:
    shoot(search_page.open("/nothing").page, "not-found")
    watch.forget_failed_answers()


def _untrained() -> ModelSpec:
    return SPEC.model_copy(update={"trained": False})
