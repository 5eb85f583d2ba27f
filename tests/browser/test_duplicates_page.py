"""Near-duplicates, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from benchmarks.system import wait_until
from common.duplicates import DuplicateGroup, DuplicateImage, DuplicateJob
from common.store import open_store
from tests.browser.pages import DuplicatesPage, Watch, overflows
from tests.browser.worlds import World, running_world
from tests.unit.web.building import report_worker

NAMES = [f"album/<b>copy {number:02}.jpg" for number in range(30)]


@pytest.fixture(scope="module")
def shared_world(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with pictures."""
    with running_world(tmp_path_factory.mktemp("duplicates"), redis_server, NAMES) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> World:
    """The same, where nobody has looked for duplicates, with a worker."""
    shared_world.forget_jobs()
    report_worker(shared_world.settings, queue="maintenance")
    return shared_world


@pytest.fixture
def server(world: World) -> str:
    """Its address."""
    return world.address


@pytest.fixture
def duplicates(page: Page, server: str, watch: Watch) -> DuplicatesPage:
    """The page."""
    return DuplicatesPage(page, server)


def make_groups(world: World, *sizes: int) -> list[DuplicateGroup]:
    """Groups of so many of the pictures."""
    entries = list(open_store(world.settings).catalog.below("photos"))
    images = [
        DuplicateImage(
            image_id=entry.image_id,
            path=entry.path,
            width=entry.record.width,
            height=entry.record.height,
            size=2_000_000 - number,
        )
        for number, entry in enumerate(entries)
    ]
    return [DuplicateGroup(images=images[:size], lowest_score=0.9712, best_score=0.9991) for size in sizes]


def begun(world: World) -> DuplicateJob:
    """The job that was asked for last, taken by a worker."""
    job = world.duplicates.begin(world.duplicates.latest()[0].id)
    assert job is not None
    return job


def finished(world: World, *sizes: int, min_score: float = 0.97) -> str:
    """A job that has found such groups. Gives its id."""
    world.duplicates.create(min_score, None)
    job = begun(world)
    world.duplicates.finish(job, make_groups(world, *sizes))
    return job.id


def test_search_is_started_followed_and_its_groups_shown(duplicates: DuplicatesPage, world: World) -> None:
    page = duplicates.open().page
    expect(page.get_by_role("heading", name="Nobody has looked for duplicates yet")).to_be_visible()
    slider = page.get_by_role("slider", name="How alike")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#min-score-value")).to_have_text("0.965")
    page.get_by_label("Folder").fill("photos/album")
    duplicates.start()
    expect(duplicates.comparing).to_contain_text("Waiting for the maintenance worker")
    expect(duplicates.comparing.get_by_role("progressbar")).to_be_hidden()
    expect(page.get_by_role("heading", name="Nobody has looked")).to_be_hidden()

    job = begun(world)
    assert (job.min_score, job.folder) == (0.965, "photos/album")
    world.duplicates.report(job, 0, 30)
    expect(duplicates.comparing).to_contain_text("0 of 30 pictures compared")
    expect(duplicates.comparing.get_by_role("progressbar")).to_be_visible()
    world.duplicates.finish(job, make_groups(world, 20, 2))
    expect(page.get_by_role("heading", name="2 groups with 22 pictures")).to_be_focused()
    expect(duplicates.comparing).to_be_hidden()
    expect(page.locator("[data-field=about]")).to_contain_text("similarity from 0.965, photos/album")
    expect(duplicates.groups).to_have_count(2)
    second = duplicates.groups.nth(1)
    expect(second.locator(".group-head")).to_contain_text("2 pictures")
    expect(second.locator(".group-head")).to_contain_text("similarity 0.971 to 0.999 · 2.0 MB to be freed")
    expect(second.locator(".copy-path")).to_have_text([f"photos/{name}" for name in NAMES[:2]])
    expect(page).to_have_url(re.compile(rf"\?job={job.id}$"))
    page.reload()
    expect(duplicates.groups).to_have_count(2)


def test_latest_groups_are_there_when_the_page_opens(duplicates: DuplicatesPage, world: World) -> None:
    old = finished(world, 2, min_score=0.9)
    finished(world, 20, *[2] * 24)
    page = duplicates.open().page
    expect(page.get_by_role("heading", name="25 groups with 68 pictures")).to_be_visible()
    expect(duplicates.groups).to_have_count(20)
    first = duplicates.groups.first
    expect(first.locator(".copy")).to_have_count(12)
    first.get_by_role("button", name="Show all 20").click()
    expect(first.locator(".copy")).to_have_count(20)
    page.get_by_role("button", name="More groups").click()
    expect(duplicates.groups).to_have_count(25)
    expect(page.get_by_role("button", name="More groups")).to_be_hidden()
    last = duplicates.groups.last
    expect(last.locator(".copy-path")).to_have_text([f"photos/{name}" for name in NAMES[:2]])

    page.get_by_text("Earlier searches").click()
    page.get_by_role("link", name="1 group with 2 pictures").click()
    expect(page).to_have_url(re.compile(rf"\?job={old}$"))
    expect(duplicates.groups).to_have_count(1)


def test_pictures_of_a_group_are_opened_and_their_paths_copied(duplicates: DuplicatesPage, world: World) -> None:
    finished(world, 3)
    page = duplicates.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    duplicates.open()
    group = duplicates.groups.first
    group.get_by_role("button", name="Copy path").nth(1).click()
    expect(group.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == f"photos/{NAMES[1]}"
    group.get_by_role("button", name="Copy all paths").click()
    # The old feedback may still be there.
    wait_until(lambda: page.evaluate("navigator.clipboard.readText()").count("\n") == 2, "all paths are copied")
    group.get_by_role("button", name="Show <b>copy 01.jpg at full size").click()
    viewer = page.locator("dialog.viewer")
    expect(viewer.get_by_role("heading")).to_have_text("<b>copy 01.jpg")
    page.keyboard.press("ArrowRight")
    expect(viewer.get_by_role("heading")).to_have_text("<b>copy 02.jpg")
    page.keyboard.press("Escape")
    expect(group.get_by_role("button", name="Show <b>copy 02.jpg at full size")).to_be_focused()


def test_nothing_found_is_said(duplicates: DuplicatesPage, world: World) -> None:
    finished(world)
    page = duplicates.open().page
    expect(page.get_by_role("heading", name="No duplicates were found")).to_be_visible()
    expect(page.get_by_text("Try a lower similarity.")).to_be_visible()
    expect(duplicates.groups).to_have_count(0)


def test_failure_is_said_and_does_not_hide_what_was_found_before(duplicates: DuplicatesPage, world: World) -> None:
    finished(world, 2)
    page = duplicates.open().page
    duplicates.start()
    expect(duplicates.comparing).to_be_visible()
    world.duplicates.fail(begun(world), "The disk is full.")
    alert = page.locator("#failed")
    expect(alert).to_contain_text("The search for duplicates failed. The disk is full.")
    expect(duplicates.comparing).to_be_hidden()
    expect(duplicates.groups).to_have_count(1)
    page.goto(duplicates.origin + "/duplicates")
    expect(alert).to_contain_text("The disk is full.")
    expect(duplicates.groups).to_have_count(1)


def test_without_a_worker_the_page_says_what_to_type(duplicates: DuplicatesPage, world: World) -> None:
    world.forget_jobs()
    page = duplicates.open().page
    notice = page.locator('[data-notice="worker-missing"]')
    expect(notice).to_contain_text("imagesearch worker --queues maintenance")
    duplicates.start()
    expect(duplicates.comparing).to_contain_text("Waiting for the maintenance worker")
    report_worker(world.settings, queue="maintenance")
    expect(notice).to_be_hidden()


def test_old_results_that_are_gone_are_said(duplicates: DuplicatesPage, world: World) -> None:
    finished(world, 2)
    page = duplicates.open("?job=20200101-000000-abcdef").page
    expect(page.get_by_text("The results of this search are not kept any more")).to_be_visible()
    expect(duplicates.groups).to_have_count(1)


def test_folder_outside_the_library_is_refused(duplicates: DuplicatesPage, watch: Watch) -> None:
    page = duplicates.open().page
    page.get_by_label("Folder").fill("/etc")
    duplicates.start()
    expect(page.locator(".start-card").get_by_role("alert")).to_contain_text("/etc is outside the library")
    expect(duplicates.comparing).to_be_hidden()
    watch.forget_failed_answers()


def test_no_width_makes_the_page_scroll_sideways(duplicates: DuplicatesPage, world: World) -> None:
    finished(world, 20, 2)
    duplicates.open()
    for width in (320, 390, 820, 1440):
        duplicates.page.set_viewport_size({"width": width, "height": 844})
        wait_until(lambda: not overflows(duplicates.page), f"it fits into {width} pixels", 20)
