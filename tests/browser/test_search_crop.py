"""Searching by a region of the query's picture: mouse, finger, keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Request, expect

from tests.browser.conftest import House
from tests.browser.devices import PHONE, open_context
from tests.browser.pages import SearchPage, Watch


@pytest.fixture
def searched(search: SearchPage, house: House) -> SearchPage:
    """The page after a search for an uploaded picture."""
    search.open().choose(house.pictures[0])
    expect(search.tiles).not_to_have_count(0)
    return search


def box(search: SearchPage) -> list[float]:
    """The box on the picture as left, top, right, bottom in fractions."""
    found = search.page.evaluate(
        """() => {
          const box = document.querySelector(".crop-box").getBoundingClientRect();
          const all = document.querySelector(".cropper").getBoundingClientRect();
          return [(box.left - all.left) / all.width, (box.top - all.top) / all.height,
                  (box.right - all.left) / all.width, (box.bottom - all.top) / all.height];
        }"""
    )
    return list(found)


def test_box_is_drawn_moved_resized_and_reset_with_the_mouse(searched: SearchPage) -> None:
    address = searched.page.url
    searched.drag_box((0.2, 0.25), (0.7, 0.75))
    searched.expect_search_after(address)
    searched.expect_crop(0.2, 0.25, 0.7, 0.75)

    address = searched.page.url
    searched.drag_box((0.45, 0.5), (0.65, 0.4))  # from inside: it moves
    searched.expect_search_after(address)
    searched.expect_crop(0.4, 0.15, 0.9, 0.65)

    address = searched.page.url
    searched.drag_box((0.41, 0.16), (0.21, 0.06))  # the upper left corner
    searched.expect_search_after(address)
    searched.expect_crop(0.2, 0.05, 0.9, 0.65)

    address = searched.page.url
    searched.drag_box((0.55, 0.645), (0.55, 0.945))  # the lower edge
    searched.expect_search_after(address)
    searched.expect_crop(0.2, 0.05, 0.9, 0.95)

    address = searched.page.url
    searched.page.get_by_role("button", name="Reset").click()
    searched.expect_search_after(address)
    assert searched.query()["crop"] is None
    expect(searched.page.get_by_role("button", name="Reset")).to_be_hidden()

    searched.page.go_back()
    expect(searched.page).to_have_url(address)
    assert box(searched) == pytest.approx([0.2, 0.05, 0.9, 0.95], abs=0.02)


def test_box_ends_at_the_edges_and_a_click_draws_none(searched: SearchPage) -> None:
    address = searched.page.url
    searched.page.mouse.click(*searched.point(0.5, 0.5))
    assert box(searched) == pytest.approx([0, 0, 1, 1], abs=0.001)
    searched.drag_box((0.6, 0.7), (1.4, 1.5))
    searched.expect_search_after(address)
    searched.expect_crop(0.6, 0.7, 1, 1)


def test_box_is_worked_with_the_keyboard(searched: SearchPage) -> None:
    address = searched.page.url
    region = searched.page.get_by_role("group", name="Region to search for")
    region.focus()
    expect(region).to_have_accessible_description(re.compile("Shift and the arrow keys change the size"))
    keyboard = searched.page.keyboard
    for _ in range(10):
        keyboard.press("Shift+ArrowLeft")
        keyboard.press("Shift+ArrowUp")
    for _ in range(5):
        keyboard.press("ArrowRight")
    searched.expect_search_after(address)
    searched.expect_crop(0.1, 0, 0.9, 0.8)
    expect(region).to_have_accessible_name(
        "Region to search for: 80 \N{MULTIPLICATION SIGN} 80 % of the picture, 10 % from the left and 0 % from the top"
    )
    address = searched.page.url
    keyboard.press("Escape")
    searched.expect_search_after(address)
    assert searched.query()["crop"] is None


def test_indexed_picture_is_searched_by_a_region_without_an_upload(search: SearchPage, house: House) -> None:
    listed = search.page.request.get(f"{house.address}/api/v1/images?limit=1").json()["images"][0]
    search.open(f"/?image={listed['image_id']}")
    expect(search.tiles).not_to_have_count(0)
    address = search.page.url
    with search.page.expect_request(lambda request: request.method == "POST") as posted:
        search.drag_box((0.1, 0.1), (0.6, 0.5))
    body = posted.value.post_data_json
    assert body["image_id"] == listed["image_id"]
    assert body["crop"] == pytest.approx([0.1, 0.1, 0.6, 0.5], abs=0.02)
    search.expect_search_after(address)


def test_region_survives_a_reload_and_can_be_changed_after_it(searched: SearchPage) -> None:
    address = searched.page.url
    searched.drag_box((0.2, 0.2), (0.8, 0.8))
    searched.expect_search_after(address)
    uploads: list[Request] = []
    searched.page.on("request", lambda request: uploads.append(request) if request.method == "POST" else None)
    searched.page.reload()
    expect(searched.cropper).to_be_visible()
    assert box(searched) == pytest.approx([0.2, 0.2, 0.8, 0.8], abs=0.02)
    address = searched.page.url
    searched.drag_box((0.79, 0.79), (0.5, 0.6))
    searched.expect_search_after(address)
    searched.expect_crop(0.2, 0.2, 0.51, 0.61)
    # The server kept the picture; that is what is sent again.
    assert [request.headers["content-type"].partition(";")[0] for request in uploads] == ["multipart/form-data"]
    assert searched.image_ids() == [None]


# --- with a finger ------------------------------------------------------------------------------------------


def test_box_is_drawn_with_a_finger(browser: Browser, house: House) -> None:
    with open_context(browser, PHONE) as context:
        page = context.new_page()
        watch = Watch(page, house.address)
        search = SearchPage(page, house.address).open()
        search.choose(house.pictures[0])
        expect(search.tiles).not_to_have_count(0)
        address = page.url
        page.get_by_role("button", name="Crop").tap()
        large = search.cropper.bounding_box()
        assert large is not None
        assert large["width"] > 300, "a finger can draw on it"
        search.swipe(*(search.point(*point) for point in ((0.25, 0.3), (0.35, 0.35), (0.5, 0.5), (0.75, 0.75))))
        search.expect_search_after(address)
        search.expect_crop(0.25, 0.3, 0.75, 0.75, within=0.03)
        page.get_by_role("button", name="Done").tap()
        expect(search.tiles.first).to_be_in_viewport()
        assert watch.problems == []
