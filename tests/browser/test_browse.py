"""The indexed pictures by folder, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from benchmarks.system import wait_until
from common.jobs import Client
from tests.browser.pages import BrowsePage, Watch, overflows
from tests.browser.worlds import World, running_world

ODD = "<b>50% of #1? & “ö”"
MANY = 150
FOLDERS = 70
NAMES = [
    *(f"2024/{month}/beach {number}.jpg" for month in ("june", "july") for number in range(3)),
    *(f"many/{number:03}.jpg" for number in range(MANY)),
    *(f"wide/folder-{number:02}/x.jpg" for number in range(FOLDERS)),
    f"{ODD}/<i>a.jpg",
    f"{ODD}/deep/b#?.jpg",
]


@pytest.fixture(scope="module")
def world(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with pictures in many folders."""
    with running_world(tmp_path_factory.mktemp("browse"), redis_server, NAMES) as world:
        yield world


@pytest.fixture
def server(world: World) -> str:
    """Its address."""
    return world.address


@pytest.fixture
def browse(page: Page, server: str, watch: Watch) -> BrowsePage:
    """The page."""
    return BrowsePage(page, server)


def test_folders_lead_to_the_pictures_in_them(browse: BrowsePage) -> None:
    page = browse.open().page
    expect(browse.folders).to_have_count(1)
    expect(browse.folders).to_contain_text(f"{len(NAMES)} pictures")
    browse.folders.click()
    expect(page).to_have_url(f"{browse.origin}/browse/photos")
    expect(browse.folders).to_have_count(4)
    browse.folders.filter(has_text="2024").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("2024")
    expect(browse.folders.locator(".folder-name")).to_have_text(["july", "june"])
    assert browse.folders.locator("img").evaluate_all("all => all.every((image) => image.src.includes('/thumbnail'))")
    expect(browse.tiles).to_have_count(6)
    expect(browse.tiles.locator(".tile-name").first).to_have_attribute("title", "photos/2024/july/beach 0.jpg")
    expect(browse.tiles.first.locator("img")).not_to_have_js_property("naturalWidth", 0)
    browse.folders.filter(has_text="june").click()
    expect(browse.tiles).to_have_count(3)
    expect(browse.folders).to_have_count(0)
    expect(browse.trail).to_have_text(["All pictures", "photos", "2024", "june"])
    browse.trail.nth(2).click()
    expect(browse.tiles).to_have_count(6)


def test_odd_names_are_kept_as_they_are(browse: BrowsePage) -> None:
    browse.open("/photos")
    browse.folders.filter(has_text="50%").click()
    heading = browse.page.get_by_role("heading", level=1)
    expect(heading).to_have_text(ODD)
    expect(browse.tiles.locator(".tile-name")).to_have_text(["<i>a.jpg", "b#?.jpg"])
    browse.folders.click()
    expect(heading).to_have_text("deep")
    expect(browse.trail).to_have_text(["All pictures", "photos", ODD, "deep"])
    browse.trail.nth(2).click()
    expect(heading).to_have_text(ODD)
    browse.tiles.first.get_by_role("link").click()
    expect(browse.viewer.get_by_role("heading")).to_have_text("<i>a.jpg")


def test_scrolling_goes_on_to_the_last_picture(browse: BrowsePage) -> None:
    page = browse.open("/photos/many").page
    expect(browse.tiles.first).to_be_visible()
    while (count := browse.tiles.count()) < MANY:
        browse.tiles.last.scroll_into_view_if_needed()
        expect(browse.tiles).not_to_have_count(count)
    titles = browse.tiles.locator(".tile-name").evaluate_all("all => all.map((name) => name.title)")
    assert titles == [f"photos/many/{number:03}.jpg" for number in range(MANY)]
    expect(page.locator(".gallery-more")).to_be_empty()


def test_picture_is_shown_at_full_size_and_leads_to_similar_ones(browse: BrowsePage) -> None:
    page = browse.open("/photos/many").page
    browse.tiles.nth(58).get_by_role("link").click()
    name = browse.viewer.get_by_role("heading")
    expect(name).to_have_text("058.jpg")
    expect(browse.viewer.get_by_text(f"59 of {MANY}")).to_be_visible()
    for expected in ("059", "060"):  # the second is not on the first page
        page.keyboard.press("ArrowRight")
        expect(name).to_have_text(f"{expected}.jpg")
    image_id = browse.tiles.nth(60).get_attribute("data-id")
    similar = browse.viewer.get_by_role("link", name="More like this")
    expect(similar).to_have_attribute("href", f"/?image={image_id}")
    page.keyboard.press("Escape")
    expect(browse.viewer).to_be_hidden()
    expect(browse.tiles.nth(60).get_by_role("link")).to_be_focused()


def test_folder_leads_to_searching_in_it(browse: BrowsePage, world: World) -> None:
    page = browse.open("/photos/2024").page
    page.get_by_role("link", name="Search in this folder").click()
    expect(page.get_by_text("Only in photos/2024.")).to_be_visible()
    with page.expect_response(lambda response: response.request.method == "POST") as sent:
        page.locator("#file").set_input_files(world.library / NAMES[0])
    search_id = sent.value.json()["id"]
    assert Client(world.settings).search(search_id).query.folder == "photos/2024"


def test_folder_leads_to_indexing_it(browse: BrowsePage) -> None:
    page = browse.open("/photos/2024").page
    page.get_by_role("link", name="Index again").click()
    expect(page.get_by_label("Folder to index")).to_have_value("photos/2024")


def test_more_folders_are_added_in_place(browse: BrowsePage) -> None:
    page = browse.open("/photos/wide").page
    expect(browse.folders).to_have_count(60)
    more = page.get_by_role("link", name="More folders")
    more.click()
    expect(browse.folders).to_have_count(FOLDERS)
    expect(more).to_be_hidden()
    expect(browse.folders.nth(60)).to_be_focused()
    names = browse.folders.locator(".folder-name").all_inner_texts()
    assert names == [f"folder-{number:02}" for number in range(FOLDERS)]


def test_folder_without_pictures_is_said(browse: BrowsePage, watch: Watch) -> None:
    page = browse.open("/photos/nothing").page
    expect(page.get_by_role("heading", name="No such folder")).to_be_visible()
    page.get_by_role("link", name="Browse the pictures").click()
    expect(browse.folders).to_have_count(1)
    watch.forget_failed_answers()


@pytest.mark.parametrize("path", ["", "/photos/2024", "/photos/wide"])
def test_no_page_scrolls_sideways(browse: BrowsePage, path: str) -> None:
    browse.open(path)
    for width in (320, 390, 820, 1440):
        browse.page.set_viewport_size({"width": width, "height": 844})
        wait_until(lambda: not overflows(browse.page), f"it fits into {width} pixels", 20)
