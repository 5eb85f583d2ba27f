"""The address of a search: back and forward, shared, expired; and what arrives with the page."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect

from tests.browser.conftest import House
from tests.browser.pages import SearchPage, Watch, wait_for

FIRST_PAGE = 40
UNKNOWN = "/search/0123456789abcdef01234567"


def test_back_and_forward_show_what_was_there(search: SearchPage, house: House) -> None:
    page = search.open().page
    search.choose(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    first = page.url
    search.act(3, "similar")
    search.expect_search_after(first)
    name = page.locator(".preview figcaption").inner_text()

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/searches" in request.url else None)
    page.go_back()
    expect(page).to_have_url(first)
    search.expect_results(FIRST_PAGE)
    expect(page.locator(".preview figcaption")).to_have_text(house.pictures[0].name)
    page.go_back()
    expect(page.get_by_role("heading", name="Find similar pictures")).to_be_visible()
    expect(search.tiles).to_have_count(0)
    page.go_forward()
    search.expect_results(FIRST_PAGE)
    page.go_forward()
    expect(page.locator(".preview figcaption")).to_have_text(name)
    search.expect_results(FIRST_PAGE)
    assert asked == [], "the results are kept"
    # The picture itself, too: it can be searched for again.
    page.go_back()
    before = page.url
    search.drag_box((0.1, 0.1), (0.6, 0.6))
    search.expect_search_after(before)


def test_back_leads_to_where_one_was_in_the_results(search: SearchPage, house: House) -> None:
    page = search.open().page
    search.choose(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    expect(search.tiles).not_to_have_count(FIRST_PAGE)
    tile = search.tiles.nth(45)
    tile.scroll_into_view_if_needed()
    before, count, at = page.url, search.tiles.count(), page.evaluate("scrollY")
    search.act(45, "similar")
    search.expect_search_after(before)
    expect(search.tiles.first).to_be_in_viewport()
    page.go_back()
    expect(search.tiles).to_have_count(count)
    wait_for(page, "(at) => Math.abs(scrollY - at) < 100", at)


def test_shared_address_shows_the_picture_and_the_results(search: SearchPage, house: House, browser: Browser) -> None:
    search.open().choose(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    address = search.page.url
    search.drag_box((0.2, 0.2), (0.8, 0.8))
    search.expect_search_after(address)
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    watch = Watch(page, house.address)
    other = SearchPage(page, house.address)
    page.goto(search.page.url)
    other.expect_results(FIRST_PAGE)
    assert other.paths() == search.paths()
    expect(other.cropper.locator("img")).to_be_visible()
    expect(other.cropper).to_have_class(re.compile("cropped"))
    context.close()
    assert watch.problems == []


def test_results_arrive_with_the_page(search: SearchPage, house: House, browser: Browser) -> None:
    search.open().choose(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(search.page.url)
    tiles = page.locator("#grid .tile")
    expect(tiles).to_have_count(24)
    expect(tiles.first.locator("img")).to_be_visible()
    expect(tiles.first.locator(".tile-name")).to_have_text(house.pictures[0].name)
    context.close()


def test_nothing_is_asked_again_after_a_reload(search: SearchPage, house: House) -> None:
    search.open().choose(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    page, asked = search.page, list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    search.expect_results(FIRST_PAGE)
    wait_for(page, "document.querySelector('.cropper img')?.naturalWidth > 0")
    assert not [url for url in asked if re.search(r"/api/v1/searches(/\w+(\?.*)?)?$", url)], "it came with the page"


def test_expired_search_offers_a_new_one(search: SearchPage, house: House, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(f"{house.address}{UNKNOWN}")
    assert answer is not None
    assert answer.status == 404
    message = page.locator("#message")
    expect(message).to_contain_text("This search has expired")
    message.get_by_role("link", name="New search").click()
    expect(page.get_by_role("heading", name="Find similar pictures")).to_be_visible()
    page.go_back()
    expect(message).to_contain_text("This search has expired")
    SearchPage(page, house.address).choose(house.pictures[0])
    SearchPage(page, house.address).expect_results(FIRST_PAGE)
    context.close()
