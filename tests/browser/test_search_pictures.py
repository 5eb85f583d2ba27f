"""The ways to put a picture in, and what is said of files that are none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request, Route, expect

from tests.browser.conftest import HOUSE_PICTURES, House
from tests.browser.devices import PHONE, open_context
from tests.browser.pages import SearchPage, wait_for

FIRST_PAGE = 40


def test_chosen_picture_appears_with_its_results(search: SearchPage, house: House) -> None:
    search.open()
    expect(search.page.locator('[data-field="images"]')).to_have_text(str(HOUSE_PICTURES))
    search.choose(house.pictures[0])
    expect(search.cropper.locator("img")).to_be_visible()
    search.expect_results(FIRST_PAGE)
    first = search.tiles.first
    expect(first.locator(".tile-figure")).to_have_text("100 %")
    expect(first.locator(".tile-name")).to_have_text(house.pictures[0].name)
    expect(search.note).to_have_text(re.compile(rf"{HOUSE_PICTURES} pictures searched in \d+ ms"))
    expect(search.page).to_have_title(re.compile(house.pictures[0].name))
    wait_for(search.page, "document.querySelector('#grid img').naturalWidth > 0")
    assert search.image_ids() == [None]


def test_dropped_and_pasted_pictures_are_searched(search: SearchPage, house: House) -> None:
    search.open().drop(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    expect(search.page.locator(".drop-overlay")).to_be_hidden()
    before = search.page.url
    search.paste(house.pictures[1])
    search.expect_search_after(before)
    expect(search.page.locator(".preview figcaption")).to_have_text(house.pictures[1].name)


def test_phone_takes_a_photo(browser: Browser, house: House) -> None:
    with open_context(browser, PHONE) as context:
        page = context.new_page()
        search = SearchPage(page, house.address).open()
        expect(page.get_by_text("Take a photo")).to_be_visible()
        camera = page.locator("#camera")
        assert camera.get_attribute("capture") == "environment"
        camera.set_input_files(house.pictures[3])
        search.expect_results(FIRST_PAGE)


def test_camera_is_not_offered_to_a_mouse(search: SearchPage) -> None:
    search.open()
    expect(search.page.get_by_text("Choose a picture")).to_be_visible()
    expect(search.page.get_by_text("Take a photo")).to_be_hidden()


def test_several_files_are_searched_for_together(search: SearchPage, house: House) -> None:
    search.open().choose(*house.pictures[:3])
    expect(search.chips).to_have_count(3)
    search.expect_results(FIRST_PAGE)
    assert search.image_ids() == [None] * 3
    expect(search.cropper).to_be_hidden()
    before = search.page.url
    search.chips.first.get_by_role("button", name=re.compile("^Remove")).click()
    search.expect_search_after(before)
    assert search.image_ids() == [None] * 2


def test_picture_of_the_collection_starts_a_search(search: SearchPage) -> None:
    sample = search.open().page.locator("#samples .tile").nth(2)
    image_id = sample.get_attribute("data-id")
    sample.click()
    search.expect_results(FIRST_PAGE)
    assert search.image_ids() == [image_id]


def test_address_of_an_indexed_picture_starts_its_search(search: SearchPage, house: House) -> None:
    listed = search.page.request.get(f"{house.address}/api/v1/images?limit=5").json()["images"][4]
    search.open(f"/?image={listed['image_id']}")
    search.expect_results(FIRST_PAGE)
    assert search.image_ids() == [listed["image_id"]]
    expect(search.page.locator(".preview figcaption")).to_have_text(listed["path"].rpartition("/")[2])


def test_dragged_result_is_searched_without_an_upload(search: SearchPage, house: House) -> None:
    search.open().choose(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    wanted, before = search.tile_id(5), search.page.url
    transfer = search.page.evaluate_handle("new DataTransfer()")
    search.tiles.nth(5).locator("img").dispatch_event("dragstart", {"dataTransfer": transfer})
    search.page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    search.expect_search_after(before)
    assert search.image_ids() == [wanted]


@pytest.mark.parametrize("way", ["field", "paste", "drop"])
def test_address_of_another_site_is_searched(search: SearchPage, house: House, way: str) -> None:
    address, image_id = "https://pictures.example/cat.jpg", None
    asked: list[dict[str, object]] = []

    def answer(route: Route, request: Request) -> None:
        # Nothing is fetched from the internet in a test: an indexed picture stands for the one at the address.
        body = json.loads(request.post_data or "")
        asked.append(dict(body))
        route.continue_(post_data={**{key: body[key] for key in ("k",)}, "image_id": image_id})

    listed = search.page.request.get(f"{house.address}/api/v1/images?limit=1").json()["images"]
    image_id = listed[0]["image_id"]
    search.page.route("**/api/v1/searches", answer)
    search.open()
    if way == "field":
        search.page.get_by_label("Address of a picture", exact=True).fill(address)
        search.page.get_by_role("button", name="Search for the picture at this address").click()
    elif way == "paste":
        search.paste_text(f" {address}\n")
    else:
        search.drop_text("text/uri-list", f"# comment\r\n{address}")
    search.expect_results(FIRST_PAGE)
    assert [body["url"] for body in asked] == [address]


def test_dragged_address_of_this_site_is_an_indexed_picture(search: SearchPage, house: House) -> None:
    listed = search.page.request.get(f"{house.address}/api/v1/images?limit=1").json()["images"][0]
    search.open().drop_text("text/uri-list", f"{house.address}{listed['thumbnail_url']}")
    search.expect_results(FIRST_PAGE)
    assert search.image_ids() == [listed["image_id"]]


def test_addresses_are_refused_where_the_server_does_not_fetch_them(search: SearchPage) -> None:
    def without_addresses(route: Route) -> None:
        page = route.fetch()
        route.fulfill(response=page, body=page.text().replace('data-url-queries="true"', 'data-url-queries="false"'))

    search.page.route(f"{search.origin}/", without_addresses)
    search.open().drop_text("text/uri-list", "https://pictures.example/cat.jpg")
    expect(search.message).to_contain_text("This server does not fetch pictures of other sites")


# --- what is no picture -------------------------------------------------------------------------------------


def test_file_of_another_kind_is_refused_at_once(search: SearchPage, house: House, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a picture", encoding="utf-8")
    search.open().drop(text, "text/plain")
    expect(search.message).to_contain_text("notes.txt is a file of another kind")
    search.choose(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    expect(search.message).to_be_hidden()
    # Results stay when something goes wrong beside them.
    search.drop(text, "text/plain")
    expect(search.page.locator(".toast")).to_contain_text("notes.txt is a file of another kind")
    search.expect_results(FIRST_PAGE)


def test_too_large_picture_is_refused_before_it_is_sent(search: SearchPage, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(3 << 20))
    search.open().choose(large)
    expect(search.message).to_contain_text("It has 3.0 MiB; this server takes up to 2.0 MiB.")
    search.choose(large, large)
    expect(search.message).to_contain_text("They have 6.0 MiB")


def test_clipboard_without_a_picture_is_said(search: SearchPage) -> None:
    search.open().paste_text("just words")
    expect(search.message).to_contain_text("The clipboard holds no picture")


def test_file_chosen_before_the_script_is_there_is_searched_for(search: SearchPage, house: House) -> None:
    page = search.page
    held: list[Route] = []
    page.route("**/static/search.js*", lambda route: held.append(route))
    page.goto(f"{search.origin}/", wait_until="commit")
    page.locator("#file").set_input_files(house.pictures[0])
    while not held:
        page.wait_for_timeout(10)
    held[0].continue_()
    search.expect_results(FIRST_PAGE)
