"""Index jobs, workers and queues, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from benchmarks.system import wait_until
from common.journal import JobJournal
from common.redis_client import key
from tests.browser.pages import DuplicatesPage, FoldersPage, Watch, overflows
from tests.browser.worlds import World, running_world
from tests.unit.web.building import report_worker
from web.texts import text

NAMES = [f"{folder}/{number}.jpg" for folder in ("2023/june", "2024/july") for number in range(3)]


@pytest.fixture(scope="module")
def shared_world(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with a few pictures."""
    with running_world(tmp_path_factory.mktemp("indexing"), redis_server, NAMES) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> World:
    """The same without jobs."""
    shared_world.forget_jobs()
    return shared_world


@pytest.fixture
def server(world: World) -> str:
    """Its address."""
    return world.address


def add_job(world: World, folder: str, *, total: int, done: int, failed: int = 0, **counts: int) -> str:
    """A job that is so far. Gives its id."""
    job_id = world.jobs.create(folder).id
    plan = world.jobs.start_plan(job_id)
    assert plan is not None
    world.jobs.add(job_id, {"found": total + counts.get("unchanged", 0), "total": total, **counts})
    world.jobs.finish_scan(job_id, plan)
    reasons = {f"{folder}/broken {number:03}.jpg": "The image is damaged." for number in range(failed)}
    world.jobs.finish_batch(job_id, plan, "b", done=done, failed=reasons, duplicates=0)
    return job_id


def test_folder_is_indexed_and_its_job_controlled(folders_page: FoldersPage, world: World) -> None:
    (world.library / "<b>2024").mkdir(exist_ok=True)
    folders_page.open().index("photos/<b>2024")
    job = folders_page.jobs.first
    expect(job.locator(".job-folder")).to_have_text("photos/<b>2024")
    state = job.locator(".chip")
    expect(state).to_have_text("scanning")
    expect(folders_page.page.get_by_label("Folder to index")).to_have_value("")
    job_id = str(job.get_attribute("data-job"))
    plan = world.jobs.start_plan(job_id)
    assert plan is not None
    world.jobs.add(job_id, {"found": 240, "total": 200, "unchanged": 40, "removed": 2})
    world.jobs.finish_scan(job_id, plan)
    expect(job.locator(".job-numbers")).to_contain_text("0 of 200 files")
    world.jobs.finish_batch(job_id, plan, "b0", done=50, failed={}, duplicates=0)
    expect(job.locator(".job-numbers")).to_contain_text("50 of 200 files")
    broken = {"photos/<b>2024/x.jpg": "It is empty."}
    world.jobs.finish_batch(job_id, plan, "b1", done=48, failed=broken, duplicates=3)
    expect(job.locator(".job-numbers")).to_contain_text(re.compile(r"99 of 200 files.*files/s.*about .* left"))
    expect(job.locator(".job-percent")).to_have_text("49 %")
    assert job.get_by_role("progressbar").evaluate("bar => bar.value / bar.max") == pytest.approx(0.495)
    facts = job.locator(".job-facts").inner_text().replace("\n", " ")
    assert facts == "240 found 40 unchanged 200 new or changed 3 duplicates 2 removed 1 failed"

    job.get_by_role("button", name="Pause").click()
    expect(state).to_have_text("paused")
    job.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("running")
    job.get_by_text("1 file failed").click()
    expect(job.locator(".failures li")).to_have_text("photos/<b>2024/x.jpgIt is empty.")
    job.get_by_role("button", name="Cancel").click()
    expect(state).to_have_text("cancelled")
    expect(job.get_by_role("button")).to_have_text(["Try failed files again", "Index again"])
    job.get_by_role("button", name="Try failed files again").click()
    expect(folders_page.jobs).to_have_count(2)
    retried = folders_page.jobs.first
    expect(retried.locator(".chip")).to_have_text("scanning")
    assert world.jobs.options(str(retried.get_attribute("data-job")))[0] == ["photos/<b>2024/x.jpg"]


def test_interrupted_job_is_indexed_again(folders_page: FoldersPage, world: World) -> None:
    JobJournal(world.settings.data_dir).begin(world.jobs.create("photos"))
    world.redis.flushall()
    job = folders_page.open().jobs.first
    expect(job.locator(".chip")).to_have_text("interrupted")
    expect(job.locator(".problem")).to_contain_text("Redis has lost this job")
    expect(job.get_by_role("progressbar")).to_be_hidden()
    expect(job.locator(".job-numbers")).to_be_hidden()
    job.get_by_role("button", name="Index again").click()
    expect(folders_page.jobs).to_have_count(2)
    expect(folders_page.jobs.first.locator(".chip")).to_have_text("scanning")


def test_finished_jobs_are_compact_and_come_after_what_goes_on(folders_page: FoldersPage, world: World) -> None:
    add_job(world, "photos/2023", total=100, done=30)
    for number in range(14):
        add_job(world, f"photos/{number}", total=12, done=12, removed=2)
    page = folders_page.open().page
    expect(folders_page.jobs).to_have_count(12)
    expect(folders_page.jobs.nth(0).locator(".job-folder")).to_have_text("photos/2023")
    finished = folders_page.jobs.nth(1)
    expect(finished.locator(".job-folder")).to_have_text("photos/13")
    expect(finished.locator(".job-numbers")).to_have_text("12 of 12 files")
    expect(finished.locator(".job-facts")).to_contain_text("2removed")
    expect(finished.locator(".job-times")).to_contain_text("took 1 s, finished")
    expect(finished.get_by_role("progressbar")).to_be_hidden()
    page.get_by_role("button", name="Show 3 older jobs").click()
    expect(folders_page.jobs).to_have_count(15)
    expect(finished.get_by_role("link", name="Browse")).to_have_attribute("href", "/browse/photos/13")


def test_long_list_of_failures_is_shown_in_parts(folders_page: FoldersPage, world: World) -> None:
    add_job(world, "photos", total=130, done=10, failed=120)
    job = folders_page.open().jobs.first
    job.get_by_text("120 files failed").click()
    expect(job.locator(".failures li")).to_have_count(50)
    expect(job.get_by_text("The first 50 of 120")).to_be_visible()
    job.get_by_role("button", name="Show 70 more").click()
    expect(job.locator(".failures li")).to_have_count(120)
    expect(job.locator(".failures li").last).to_have_text("photos/broken 119.jpgThe image is damaged.")
    with folders_page.page.expect_download() as download:
        job.get_by_role("link", name="Download all as CSV").click()
    assert Path(download.value.path()).read_text(encoding="utf-8").count("The image is damaged.") == 120


def test_folder_outside_the_library_is_refused_with_the_reason(folders_page: FoldersPage, watch: Watch) -> None:
    folders_page.open().index("/etc")
    expect(folders_page.page.get_by_role("alert")).to_contain_text("/etc is outside the library")
    expect(folders_page.jobs).to_have_count(0)
    watch.forget_failed_answers()


def test_folders_are_suggested_while_typing(folders_page: FoldersPage) -> None:
    page = folders_page.open().page
    options = page.locator("#folders option")
    expect(options).to_have_count(1)
    page.get_by_label("Folder to index").press_sequentially("photos/2024/")
    expect(options.last).to_have_attribute("value", "photos/2024/july")
    page.get_by_role("button", name="photos", exact=True).click()
    expect(page.get_by_label("Folder to index")).to_have_value("photos")


def test_workers_and_queues_are_shown_live(folders_page: FoldersPage, world: World) -> None:
    page = folders_page.open().page
    for queue in ("query", "bulk", "maintenance"):
        role = folders_page.role(queue)
        expect(role).to_contain_text("not running")
        expect(role).to_contain_text(f"imagesearch worker --queues {queue}")
    notice = page.locator('[data-notice="worker-missing"]')
    expect(notice).to_contain_text("No bulk worker is running")

    report_worker(world.settings, state="waiting", detail="It waits for the weights.")
    report_worker(world.settings, queue="bulk", state="busy", images_per_second=14.21, threads=4)
    world.redis.rpush("bulk", "task", "task")
    query, bulk = folders_page.role("query"), folders_page.role("bulk")
    expect(query.locator(".worker")).to_contain_text("It waits for the weights.")
    expect(bulk.locator(".worker")).to_contain_text("14.2 pictures/s · bfloat16 · 4 threads · process 4711 · seen")
    expect(bulk.locator("[data-field=role-state]")).to_have_text("busy")
    expect(bulk).to_contain_text("2 waiting")
    expect(notice).to_be_hidden()
    expect(folders_page.role("maintenance")).to_contain_text("not running")
    seen = bulk.locator("[data-field=seen]")
    first = seen.inner_text()
    expect(seen).not_to_have_text(first)

    world.redis.delete(key("worker", "query@desk:4711"))
    expect(query).to_contain_text("not running")
    expect(page.locator('.facts [data-field="images"]')).to_have_text(str(len(NAMES)))
    expect(page.locator('[data-field="model"]')).to_have_text("tiny/fc1")


def test_no_width_makes_the_page_scroll_sideways(folders_page: FoldersPage, world: World) -> None:
    add_job(world, "photos/" + "very-long-name-of-a-folder" * 4, total=123456, done=1234, failed=12, unchanged=99999)
    report_worker(world.settings, host="a-very-long-host-name.of-a-very-long-domain.example.org")
    folders_page.open().jobs.first.locator("summary").click()
    for width in (320, 390, 820, 1024, 1440):
        folders_page.page.set_viewport_size({"width": width, "height": 844})
        wait_until(lambda: not overflows(folders_page.page), f"it fits into {width} pixels", 20)


def test_token_is_asked_for_once_where_the_server_has_one(page: Page, redis_url: str, tmp_path: Path) -> None:
    with running_world(tmp_path, redis_url, ["a.jpg"], token="s3cret") as world:
        watch = Watch(page, world.address)
        folders = FoldersPage(page, world.address).open()
        folders.index("photos")
        expect(page.get_by_role("alert")).to_contain_text("token")
        token = page.get_by_label("This server asks for its token")
        token.fill("wrong")
        token.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("token")
        token.fill("s3cret")
        page.get_by_role("button", name="Use it").click()
        expect(folders.jobs).to_have_count(1)  # what was refused is done now
        expect(token).to_be_hidden()
        folders.jobs.first.get_by_role("button", name="Cancel").click()
        expect(folders.jobs.first.locator(".chip")).to_have_text("cancelled")
        duplicates = DuplicatesPage(page, world.address).open()
        duplicates.start()
        expect(duplicates.comparing).to_be_visible()
        watch.forget_failed_answers()
        assert watch.problems == []


def test_page_is_there_while_redis_is_away(page: Page, tmp_path: Path) -> None:
    with running_world(tmp_path, "redis://localhost:1/0") as world:
        watch = Watch(page, world.address)
        folders = FoldersPage(page, world.address).open()
        notice = page.locator('[data-notice="offline"]')
        expect(notice).to_contain_text("Redis is not reachable")
        expect(folders.role("query").locator("[data-field=role-state]")).to_have_text(text("system.dash"))
        folders.index("photos")
        expect(page.get_by_role("alert")).to_contain_text("Redis is not reachable")
        watch.forget_failed_answers()
        assert watch.problems == []
