"""The pages without a mouse: what people come for, from the first Tab on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, FileChooser, Locator, Page, expect

from common.celery_app import BULK
from tests.browser.devices import DESKTOP, open_context
from tests.browser.pages import SearchPage, Watch
from tests.browser.scenes import SCENES
from tests.browser.scenes.collection import counted_job
from tests.browser.scenes.search import HILLS
from tests.browser.stage import ROOT, Stage

PAGES = ["search-home", "search-results", "browse-root", "indexing-jobs", "duplicates-groups", "api-guide"]
_FOCUSED = """() => {
  const node = document.activeElement;
  const { top, bottom, left, right } = node.getBoundingClientRect();
  const { outlineStyle, outlineWidth } = getComputedStyle(node);
  return {
    node: node.outerHTML.slice(0, 160),
    onScreen: bottom > 0 && top < innerHeight && right > 0 && left < innerWidth,
    outlined: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
  };
}"""


@pytest.fixture
def full(stage: Callable[[str], Stage]) -> Stage:
    """An installation with pictures and workers."""
    full = stage("full")
    full.reset()
    return full


@pytest.fixture
def page(browser: Browser, full: Stage) -> Iterator[Page]:
    """A page in a fresh browser profile; fails the test if anything went wrong behind it."""
    with open_context(browser, DESKTOP) as context:
        page = context.new_page()
        watch = Watch(page, full.address)
        yield page
        assert watch.problems == []


def tab_to(page: Page, target: Locator, most: int = 60) -> None:
    """Presses Tab until something has the focus."""
    expect(target).to_be_attached()
    for _ in range(most):
        page.keyboard.press("Tab")
        if target.evaluate("node => node === document.activeElement"):
            return
    pytest.fail(f"{target} is not reached with {most} times Tab")


def wait_until(page: Page, condition: Callable[[], bool]) -> None:
    """Lets the browser's events come until something is so."""
    for _ in range(600):
        if condition():
            return
        page.wait_for_timeout(25)
    pytest.fail("it did not come")


@pytest.mark.parametrize("name", PAGES)
def test_focus_is_always_seen(name: str, page: Page, full: Stage) -> None:
    SCENES[name].play(page, full)
    page.evaluate("scrollTo(0, 0)")
    page.mouse.click(1, 1)  # from the first element on, wherever the focus was
    seen = []
    for _ in range(25):
        page.keyboard.press("Tab")
        focused = page.evaluate(_FOCUSED)
        if focused["node"].startswith("<body"):
            break  # behind the last one
        assert focused["onScreen"], focused["node"]
        assert focused["outlined"], focused["node"]
        seen.append(focused["node"])
    assert len(set(seen)) >= 10


def test_first_tab_leads_past_the_navigation(page: Page, full: Stage) -> None:
    page.goto(f"{full.address}/browse")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_picture_is_chosen_looked_at_and_gone_on_from(page: Page, full: Stage) -> None:
    # From the start: the browser may show a chooser before it knows that it is waited for.
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    search = SearchPage(page, full.address).open()
    address = page.url
    tab_to(page, page.locator("#file"))
    page.keyboard.press("Enter")
    wait_until(page, lambda: bool(choosers))
    choosers[0].set_files(full.library / HILLS)
    search.expect_search_after(address)
    expect(search.tiles.nth(11)).to_be_visible()

    tab_to(page, search.tiles.nth(1))
    page.keyboard.press("Enter")
    expect(search.viewer).to_be_visible()
    page.keyboard.press("ArrowRight")
    path = search.paths()[2]
    expect(search.viewer.locator(".viewer-path")).to_have_text(path)
    page.keyboard.press("Escape")
    expect(search.viewer).to_be_hidden()
    expect(search.tiles.nth(2)).to_be_focused()

    page.keyboard.press("Enter")
    address = page.url
    tab_to(page, search.viewer.get_by_text("More like this"))
    page.keyboard.press("Enter")
    search.expect_search_after(address)
    expect(search.tiles.first.locator(".tile-name")).to_have_attribute("title", path)


def test_region_folder_and_cut_off_are_chosen(page: Page, full: Stage) -> None:
    search = SearchPage(page, full.address).open(f"/search/{full.searched((full.library / HILLS).read_bytes())}")
    tab_to(page, page.locator(".crop-box"))
    address = page.url
    for _ in range(12):
        page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Shift+ArrowUp")
    search.expect_search_after(address)
    search.expect_crop(0, 0, 0.76, 0.76)

    count = search.tiles.count()
    tab_to(page, page.locator("#cutoff"))
    page.keyboard.press("End")
    expect(search.tiles).not_to_have_count(count)
    page.keyboard.press("Home")
    expect(search.tiles).to_have_count(count)

    button = page.locator(".folder-button")
    tab_to(page, button)
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="Folders in Sky"))
    page.keyboard.press("Enter")
    tab_to(page, page.locator(".folder-name", has_text="Evenings"))
    page.keyboard.press("Escape")
    expect(page.locator(".folder-panel")).to_be_hidden()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, page.locator(".folder-name", has_text="Evenings"))
    address = page.url
    page.keyboard.press("Enter")
    search.expect_search_after(address)
    expect(search.tiles).to_have_count(4)


def test_folders_are_walked_through(page: Page, full: Stage) -> None:
    page.goto(f"{full.address}/browse")
    for folder in (ROOT, "Places", "Hills"):
        tab_to(page, page.locator(".folder-card", has_text=folder))
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(folder)
    first = page.locator(".gallery .tile-open").first
    tab_to(page, first)
    page.keyboard.press("Enter")
    viewer = page.locator("dialog.viewer")
    expect(viewer).to_be_visible()
    page.keyboard.press("Escape")
    expect(first).to_be_focused()
    tab_to(page, page.locator(".trail a").first, most=90)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/browse$"))


def test_job_is_started_paused_and_its_errors_read(page: Page, full: Stage) -> None:
    counted_job(full, ROOT, done=7300, broken=2)
    full.report(BULK, "busy")
    page.goto(f"{full.address}/folders")
    tab_to(page, page.get_by_label("Folder to index"))
    page.keyboard.type(f"{ROOT}/Sky")
    page.keyboard.press("Enter")
    job = page.locator("#jobs .job", has_text=f"{ROOT}/Sky")
    expect(job).to_be_visible()
    running = page.locator('#jobs .job[data-state="running"]')
    tab_to(page, running.get_by_role("button", name="Pause"))
    page.keyboard.press("Enter")
    paused = page.locator('#jobs .job[data-state="paused"]')
    expect(paused).to_be_visible()
    tab_to(page, paused.locator("summary"))
    page.keyboard.press("Enter")
    expect(paused.locator(".failures li")).to_have_count(2)
