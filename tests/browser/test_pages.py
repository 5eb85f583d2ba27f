"""The pages as people use them, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis
from playwright.sync_api import expect

from common.journal import JobJournal
from common.progress import JobBoard
from common.redis_client import key
from common.settings import Settings
from tests.browser.conftest import PICTURES, PlayedWorker
from tests.browser.pages import FoldersPage, SearchPage, Watch, overflows


@pytest.fixture
def board(settings: Settings) -> JobBoard:
    """The index jobs as the workers see them."""
    return JobBoard(redis.Redis.from_url(settings.redis_url))


# --- searching ----------------------------------------------------------------------------------------------


def test_chosen_picture_appears_with_its_results(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker
) -> None:
    search_page.open()
    expect(search_page.page.locator('[data-field="images"]')).to_have_text(str(PICTURES))
    search_page.choose(pictures[0])
    expect(search_page.page.locator(".preview img")).to_be_visible()
    search_page.expect_results(PICTURES)
    assert len(set(search_page.paths())) == PICTURES
    first = search_page.tiles.first
    expect(first.locator(".rank")).to_have_text("1")
    expect(first.locator(".score")).to_have_text("1.000")
    expect(first.locator(".name")).to_have_text(pictures[0].name)
    expect(search_page.page.locator("#results-note")).to_have_text(re.compile(rf"out of {PICTURES} in \d+ ms"))
    search_page.page.wait_for_function("document.querySelector('.tile img').naturalWidth > 0")


def test_dropped_and_pasted_pictures_are_searched(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker
) -> None:
    search_page.open().drop(pictures[0])
    search_page.expect_results(PICTURES)
    expect(search_page.page.locator(".drop-overlay")).to_be_hidden()
    first_search = search_page.search_id
    search_page.paste(pictures[1])
    expect(search_page.page).not_to_have_url(re.compile(first_search))
    search_page.expect_results(PICTURES)


def test_options_change_the_results(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker, board: JobBoard
) -> None:
    board.create("photos/city")
    search_page.open()
    count = search_page.page.get_by_role("combobox", name="Results")
    count.select_option("10")
    search_page.choose(pictures[0])
    search_page.expect_results(10)
    count.select_option("60")
    search_page.expect_results(PICTURES)
    search_page.page.get_by_role("combobox", name="Folder").select_option("photos/city")
    search_page.expect_results(PICTURES // 3)
    assert all(path.startswith("photos/city/") for path in search_page.paths())


def test_address_brings_the_results_back(search_page: SearchPage, pictures: list[Path], worker: PlayedWorker) -> None:
    search_page.open().choose(pictures[0])
    search_page.expect_results(PICTURES)
    first = search_page.page.url
    search_page.page.reload()
    search_page.expect_results(PICTURES)
    expect(search_page.page.locator(".preview img")).to_be_visible()

    search_page.choose(pictures[1])
    expect(search_page.page).not_to_have_url(first)
    search_page.expect_results(PICTURES)
    search_page.page.go_back()
    expect(search_page.page).to_have_url(first)
    search_page.expect_results(PICTURES)
    search_page.page.go_back()
    expect(search_page.page.get_by_role("heading", name="Find similar pictures")).to_be_visible()
    expect(search_page.tiles).to_have_count(0)
    search_page.page.go_forward()
    search_page.expect_results(PICTURES)


def test_more_like_this_searches_from_a_result(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker
) -> None:
    search_page.open().choose(pictures[0])
    search_page.expect_results(PICTURES)
    before = search_page.page.url
    search_page.tiles.nth(4).click()
    name = search_page.viewer.get_by_role("heading").inner_text()
    search_page.viewer.get_by_role("button", name="More like this").click()
    expect(search_page.viewer).to_be_hidden()
    expect(search_page.page).not_to_have_url(before)
    search_page.expect_results(PICTURES)
    expect(search_page.page.locator(".preview figcaption")).to_have_text(name)


def test_viewer_is_worked_with_the_keyboard(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker
) -> None:
    search_page.open().choose(pictures[0])
    search_page.expect_results(PICTURES)
    search_page.tiles.nth(0).focus()
    keyboard = search_page.page.keyboard
    keyboard.press("Enter")
    rank = search_page.viewer.locator("#viewer-rank")
    expect(rank).to_have_text(f"Result 1 of {PICTURES}")
    keyboard.press("ArrowLeft")
    expect(rank).to_have_text(f"Result 1 of {PICTURES}")
    keyboard.press("ArrowRight")
    keyboard.press("ArrowRight")
    expect(rank).to_have_text(f"Result 3 of {PICTURES}")
    search_page.viewer.get_by_role("button", name="Previous result").click(click_count=2)
    keyboard.press("ArrowLeft")
    expect(rank).to_have_text(f"Result 1 of {PICTURES}")
    keyboard.press("ArrowRight")
    keyboard.press("ArrowRight")
    path = search_page.paths()[2]
    expect(search_page.viewer.locator("#viewer-path")).to_have_text(path)
    expect(search_page.viewer.locator("#viewer-score")).to_have_text("0.974")
    image = search_page.viewer.locator("#viewer-image")
    expect(image).to_have_attribute("src", re.compile("original$"))
    keyboard.press("Escape")
    expect(search_page.viewer).to_be_hidden()
    expect(search_page.tiles.nth(2)).to_be_focused()


def test_viewer_shows_the_thumbnail_of_a_lost_file(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker, watch: Watch
) -> None:
    search_page.open().choose(pictures[0])
    search_page.expect_results(PICTURES)
    pictures[0].unlink()
    search_page.tiles.first.click()
    expect(search_page.viewer.get_by_role("status")).to_contain_text("cannot be read any more")
    expect(search_page.viewer.locator("#viewer-image")).to_have_attribute("src", re.compile("thumbnail$"))
    watch.forget_failed_answers()


# --- when something is not as it should be ------------------------------------------------------------------


def test_empty_collection_says_how_to_start(search_page: SearchPage) -> None:
    search_page.open()
    expect(search_page.page.get_by_role("heading", name="No pictures are indexed yet")).to_be_visible()
    expect(search_page.page.locator(".steps li")).to_have_count(3)


def test_what_is_no_picture_is_refused_with_the_reason(
    search_page: SearchPage, tmp_path: Path, pictures: list[Path], worker: PlayedWorker, watch: Watch
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a picture", encoding="utf-8")
    search_page.open().drop(text, "text/plain")
    expect(search_page.message).to_contain_text("Not an image in a supported format")
    watch.forget_failed_answers()
    search_page.choose(pictures[0])
    search_page.expect_results(PICTURES)
    expect(search_page.message).to_be_hidden()


def test_too_large_picture_is_refused_before_it_is_sent(search_page: SearchPage, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(3 << 20))
    search_page.open().choose(large)
    expect(search_page.message).to_contain_text("It has 3.0 MiB; this server takes up to 2.0 MiB.")


def test_clipboard_without_a_picture_is_said(search_page: SearchPage) -> None:
    search_page.open()
    search_page.page.evaluate(
        "document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: new DataTransfer(), bubbles: true}))"
    )
    expect(search_page.message).to_contain_text("The clipboard holds no picture")


def test_waiting_without_a_worker_is_explained_and_ends_when_one_comes(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker, settings: Settings
) -> None:
    worker.on = False
    search_page.page.wait_for_timeout(200)
    with redis.Redis.from_url(settings.redis_url) as client:
        client.delete(key("worker", "query@desk:4711"))
    search_page.open()
    expect(search_page.page.locator('[data-notice="worker-missing"]')).to_be_visible()
    search_page.choose(pictures[0])
    expect(search_page.page.locator("#results-note")).to_contain_text("imagesearch worker --queues query")
    worker.on = True
    search_page.expect_results(PICTURES)
    expect(search_page.page.locator('[data-notice="worker-missing"]')).to_be_hidden()


def test_failed_search_says_why_and_can_be_tried_again(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker
) -> None:
    worker.error = "The image is damaged and cannot be decoded."
    search_page.open().choose(pictures[0])
    expect(search_page.message).to_contain_text("The image is damaged")
    worker.error = None
    search_page.message.get_by_role("button", name="Try again").click()
    search_page.expect_results(PICTURES)


def test_expired_search_offers_a_new_one(search_page: SearchPage, watch: Watch) -> None:
    search_page.open("/search/0123456789abcdef01234567")
    expect(search_page.message).to_contain_text("This search has expired")
    search_page.message.get_by_role("link", name="New search").click()
    expect(search_page.page.get_by_role("heading", name="Find similar pictures")).to_be_visible()
    watch.forget_failed_answers()


def test_unreachable_server_is_said(search_page: SearchPage, pictures: list[Path], watch: Watch) -> None:
    search_page.open()
    search_page.page.context.set_offline(True)
    search_page.choose(pictures[0])
    expect(search_page.message).to_contain_text("The server cannot be reached")
    search_page.page.context.set_offline(False)
    watch.forget_failed_answers()


# --- folders ------------------------------------------------------------------------------------------------


def test_folder_is_indexed_and_its_job_controlled(folders_page: FoldersPage, board: JobBoard, library: Path) -> None:
    (library / "<b>2024").mkdir()
    folders_page.open().index("photos/<b>2024")
    job = folders_page.jobs.first
    expect(job.locator(".job-folder")).to_have_text("photos/<b>2024")
    expect(job.locator(".chip")).to_have_text("scanning")
    job_id = str(job.get_attribute("data-job"))
    plan = board.start_plan(job_id)
    board.add(job_id, {"found": 240, "total": 200, "unchanged": 40})
    board.finish_scan(job_id, plan)
    expect(job.locator(".job-numbers")).to_contain_text("0 of 200 files")
    board.finish_batch(job_id, plan, "b1", done=98, failed={"photos/<b>2024/x.jpg": "It is empty."}, duplicates=3)
    expect(job.locator(".job-numbers")).to_contain_text("99 of 200 files")
    assert job.locator("progress").evaluate("bar => bar.value / bar.max") == pytest.approx(0.495)

    job.get_by_role("button", name="Pause").click()
    expect(job.locator(".chip")).to_have_text("paused")
    job.get_by_role("button", name="Resume").click()
    expect(job.locator(".chip")).to_have_text("running")
    job.get_by_text("1 file failed").click()
    expect(job.locator(".failures li")).to_have_text("photos/<b>2024/x.jpgIt is empty.")
    with folders_page.page.expect_download() as download:
        job.get_by_role("link", name="Download all as CSV").click()
    assert "It is empty." in Path(download.value.path()).read_text(encoding="utf-8")
    job.get_by_role("button", name="Cancel").click()
    expect(job.locator(".chip")).to_have_text("cancelled")
    expect(job.get_by_role("button")).to_have_count(1)
    job.get_by_role("button", name="Try failed files again").click()
    expect(folders_page.jobs).to_have_count(2)
    retried = folders_page.jobs.first
    expect(retried.locator(".chip")).to_have_text("scanning")
    assert board.options(str(retried.get_attribute("data-job")))[0] == ["photos/<b>2024/x.jpg"]


def test_interrupted_job_is_indexed_again(folders_page: FoldersPage, board: JobBoard, settings: Settings) -> None:
    JobJournal(settings.data_dir).begin(board.create("photos"))
    with redis.Redis.from_url(settings.redis_url) as lost:
        lost.flushall()
    job = folders_page.open().jobs.first
    expect(job.locator(".chip")).to_have_text("interrupted")
    expect(job.locator(".job-error")).to_contain_text("Redis has lost this job")
    expect(job.locator("progress")).to_be_hidden()
    expect(job.locator(".job-numbers")).to_be_empty()
    job.get_by_role("button", name="Index again").click()
    expect(folders_page.jobs).to_have_count(2)
    expect(folders_page.jobs.filter(has_text="scanning")).to_have_count(1)


def test_finished_job_shows_what_it_did(folders_page: FoldersPage, board: JobBoard) -> None:
    job_id = board.create("photos").id
    plan = board.start_plan(job_id)
    board.add(job_id, {"found": 12, "total": 12, "removed": 2})
    board.finish_batch(job_id, plan, "b1", done=12, failed={}, duplicates=1)
    board.finish_scan(job_id, plan)
    job = folders_page.open().jobs.first
    expect(job.locator(".chip")).to_have_text("done")
    expect(job.locator(".job-numbers")).to_have_text("12 of 12 files")
    expect(job.locator(".job-details")).to_contain_text("1 duplicate · 2 removed")


def test_folder_outside_the_library_is_refused_with_the_reason(folders_page: FoldersPage, watch: Watch) -> None:
    folders_page.open().index("/etc")
    expect(folders_page.page.get_by_role("alert")).to_contain_text("/etc is outside the library")
    expect(folders_page.jobs).to_have_count(0)
    watch.forget_failed_answers()


@pytest.mark.parametrize("api_token", ["s3cret"])
def test_token_is_asked_for_where_the_server_has_one(folders_page: FoldersPage, watch: Watch) -> None:
    page = folders_page.open().page
    folders_page.index("photos")
    expect(page.get_by_role("alert")).to_contain_text("token")
    page.get_by_label("This server asks for its token").fill("s3cret")
    page.get_by_role("button", name="Index", exact=True).click()
    expect(folders_page.jobs).to_have_count(1)
    folders_page.jobs.first.get_by_role("button", name="Cancel").click()
    expect(folders_page.jobs.first.locator(".chip")).to_have_text("cancelled")
    watch.forget_failed_answers()


def test_system_is_shown_live(folders_page: FoldersPage, worker: PlayedWorker) -> None:
    folders_page.open()
    expect(folders_page.page.locator("#workers li")).to_have_count(1)
    expect(folders_page.page.locator('[data-field="model"]')).to_have_text("tiny/fc1")
    expect(folders_page.page.locator('.facts [data-field="images"]')).to_have_text(str(PICTURES))


# --- all pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/folders", "/api/docs"])
def test_no_page_scrolls_sideways(search_page: SearchPage, path: str) -> None:
    search_page.open(path)
    expect(search_page.page.get_by_role("navigation", name="Main")).to_be_visible()
    for width in (320, 390, 768, 1024, 1440):
        search_page.page.set_viewport_size({"width": width, "height": 844})
        assert not overflows(search_page.page), width


def test_pages_are_reached_with_the_keyboard(search_page: SearchPage) -> None:
    search_page.open()
    focused = []
    for _ in range(8):
        search_page.page.keyboard.press("Tab")
        focused.append(search_page.page.evaluate("document.activeElement.id || document.activeElement.innerText"))
    assert focused[:5] == ["Skip to content", "Imagesearch", "Search", "Folders", "API"]
    assert "file" in focused
