"""Narrowing results and going on from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Request, expect

from benchmarks.system import wait_until
from tests.browser.conftest import HOUSE_PICTURES, House
from tests.browser.devices import PHONE, open_context
from tests.browser.pages import SearchPage, wait_for

FIRST_PAGE = 40


@pytest.fixture
def searched(search: SearchPage, house: House) -> SearchPage:
    """The page after a search for an uploaded picture."""
    search.open().choose(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    return search


def scroll_to_the_end(search: SearchPage, tiles: int) -> None:
    """Scrolls on until so many results are there."""
    search.page.mouse.move(900, 500)

    def is_there() -> bool:
        search.page.mouse.wheel(0, 20_000)
        return search.tiles.count() == tiles

    wait_until(is_there, f"{tiles} results are there", 30)


def test_rows_fill_the_width(searched: SearchPage) -> None:
    for width in (1440, 820, 390):
        searched.page.set_viewport_size({"width": width, "height": 900})
        wait_for(
            searched.page,
            """() => {
              const list = document.querySelector("#grid").getBoundingClientRect();
              const rows = new Map();
              for (const tile of document.querySelectorAll("#grid .tile")) {
                const box = tile.getBoundingClientRect();
                rows.set(box.top, Math.max(rows.get(box.top) ?? 0, box.right));
              }
              const ends = [...rows.values()].slice(0, -1);
              return ends.length > 2 && ends.every((end) => Math.abs(end - list.right) < 1.5);
            }""",
        )


def test_nothing_jumps_while_pictures_and_pages_load(searched: SearchPage) -> None:
    searched.page.evaluate(
        """() => {
          window.shifts = 0;
          new PerformanceObserver((list) => list.getEntries().forEach((entry) => (window.shifts += entry.value)))
            .observe({ type: "layout-shift" });
        }"""
    )
    searched.page.mouse.move(900, 500)
    while searched.tiles.count() < HOUSE_PICTURES - 1:
        searched.page.mouse.wheel(0, 120)
    scroll_to_the_end(searched, HOUSE_PICTURES - 1)
    wait_for(searched.page, "[...document.querySelectorAll('#grid img')].slice(-4).every(i => i.naturalWidth)")
    assert searched.page.evaluate("window.shifts") < 0.05


def test_results_go_on_as_one_scrolls_and_duplicates_are_one_tile(searched: SearchPage) -> None:
    badge = searched.tiles.first.locator(".tile-badge")
    expect(badge).to_be_hidden()
    scroll_to_the_end(searched, HOUSE_PICTURES - 1)
    paths = searched.paths()
    assert len(set(paths)) == HOUSE_PICTURES - 1
    assert paths == sorted(paths), "the order of all pages"
    # The last picture of all is the same file as the first.
    expect(badge).to_have_text("\N{MULTIPLICATION SIGN}2")
    searched.tiles.first.click()
    copies = searched.viewer.locator(".viewer-copies")
    copies.get_by_text("2 identical files").click()
    expect(copies.locator("li")).to_have_text([paths[0], re.compile(r"garden/picture-99\.jpg")])


def test_pages_that_cannot_be_loaded_are_offered_again(search_alone: SearchPage, house: House) -> None:
    page = search_alone.open().page
    search_alone.choose(house.pictures[0])
    search_alone.expect_results(FIRST_PAGE)
    page.route("**/api/v1/searches", lambda route: route.abort())
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    again = page.locator(".results").get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    page.unroute("**/api/v1/searches")
    again.click()
    expect(search_alone.tiles).not_to_have_count(FIRST_PAGE)


def test_figures_are_shown_with_their_meaning(searched: SearchPage) -> None:
    third = searched.tiles.nth(2)
    figure = third.locator(".tile-figure")
    expect(figure).to_have_text("99.26 %")
    expect(figure).to_have_attribute("title", "more alike than 99.26 % of random pairs of your pictures")
    raw = third.locator(".tile-figures")
    expect(raw).to_be_hidden()
    third.hover()
    expect(raw).to_be_visible()
    expect(raw).to_have_text("cosine 0.974 · distance 0.228")
    third.click()
    viewer = searched.viewer
    expect(viewer.locator('[data-fact="percentile"]')).to_have_text("99.26 %")
    expect(viewer.locator('[data-fact="score"]')).to_have_text("0.974")
    expect(viewer.locator('[data-fact="distance"]')).to_have_text("0.228")


def test_cut_off_hides_what_is_below_and_stays_in_the_address(searched: SearchPage) -> None:
    slider = searched.page.get_by_label("Cut-off")
    slider.fill("0.8")
    shown = 16  # 1 - 0.013 * 15 = 0.805
    expect(searched.tiles).to_have_count(shown)
    expect(searched.page.locator("#cutoff-value")).to_have_text("0.80")
    expect(searched.note).to_have_text(f"{shown} with 0.80 or more (beyond 94.4 % of pairs)")
    expect(searched.page).to_have_url(re.compile("#min=0.8$"))
    asked: list[Request] = []
    searched.page.on("request", lambda request: asked.append(request) if request.method == "POST" else None)
    searched.page.mouse.wheel(0, 20_000)
    searched.page.wait_for_timeout(200)
    assert asked == [], "nothing more is loaded for what would be hidden"
    searched.page.reload()
    expect(searched.tiles).to_have_count(shown)
    slider.fill("0.4")
    scroll_to_the_end(searched, 47)  # loads the page that holds the rest of them, and stops there
    expect(searched.note).to_contain_text("47 with 0.40 or more")
    slider.fill("0")
    expect(searched.page.locator("#cutoff-value")).to_have_text("off")
    expect(searched.page).not_to_have_url(re.compile("#"))


def test_folder_is_chosen_from_a_tree_with_counts(searched: SearchPage) -> None:
    page, address = searched.page, searched.page.url
    page.get_by_role("button", name="All folders").click()
    tree = page.get_by_role("list", name="Folders")
    # The only root is open at once.
    expect(tree.get_by_role("button", name=re.compile(r"^city\s*50$"))).to_be_visible()
    expect(tree.get_by_role("button", name=re.compile(r"^photos\s*100$"))).to_be_visible()
    tree.get_by_role("button", name="Folders in city").press("Enter")
    tree.get_by_role("button", name=re.compile(r"^south\s*25$")).press("Enter")
    searched.expect_search_after(address)
    expect(tree).to_be_hidden()
    searched.expect_results(25)
    assert all(path.startswith("photos/city/south/") for path in searched.paths())
    assert searched.query()["folder"] == "photos/city/south"
    expect(page.get_by_role("heading", name="Similar pictures in photos/city/south")).to_be_visible()
    chosen = page.get_by_role("button", name="photos/city/south")
    expect(chosen).to_be_focused()
    chosen.press("Enter")
    expect(tree.locator('[aria-current="true"]')).to_contain_text("south")
    page.keyboard.press("Escape")
    expect(tree).to_be_hidden()
    chosen.click()
    address = page.url
    tree.get_by_role("button", name=re.compile(r"^All folders")).click()
    searched.expect_search_after(address)
    searched.expect_results(FIRST_PAGE)


def test_more_like_this_sends_no_picture(searched: SearchPage) -> None:
    wanted, address = searched.tile_id(4), searched.page.url
    with searched.page.expect_request(lambda request: request.method == "POST") as posted:
        searched.act(4, "similar")
    assert posted.value.post_data_json == {"image_id": wanted, "k": FIRST_PAGE}
    searched.expect_search_after(address)
    assert searched.image_ids() == [wanted]

    wanted, name = searched.tile_id(7), searched.tiles.nth(7).locator(".tile-name").inner_text()
    address = searched.page.url
    searched.tiles.nth(7).click()
    searched.viewer.get_by_role("link", name="More like this").click()
    expect(searched.viewer).to_be_hidden()
    searched.expect_search_after(address)
    assert searched.image_ids() == [wanted]
    expect(searched.page.locator(".preview figcaption")).to_have_text(name)


def test_results_are_added_to_the_query_and_taken_out(searched: SearchPage) -> None:
    more, less, address = searched.tile_id(3), searched.tile_id(6), searched.page.url
    searched.act(3, "add")
    searched.expect_search_after(address)
    expect(searched.chips).to_have_count(2)
    assert searched.image_ids() == [None, more]

    address = searched.page.url
    searched.act(6, "subtract")
    searched.expect_search_after(address)
    images = searched.query()["images"]
    assert [(image["image_id"], image["weight"]) for image in images] == [(None, 1), (more, 1), (less, -0.5)]
    expect(searched.chips.nth(2)).to_have_class(re.compile("unwanted"))

    address = searched.page.url
    searched.chips.nth(1).get_by_role("button", name=re.compile("is wanted")).click()
    searched.expect_search_after(address)
    assert [image["weight"] for image in searched.query()["images"]] == [1, -0.5, -0.5]
    # Something must be wanted.
    searched.chips.nth(0).get_by_role("button", name=re.compile("^Remove")).click()
    expect(searched.page.locator(".toast")).to_contain_text("At least one picture must be wanted")
    expect(searched.chips).to_have_count(3)

    address = searched.page.url
    searched.page.reload()
    expect(searched.chips).to_have_count(3)
    searched.chips.nth(2).get_by_role("button", name=re.compile("^Remove")).click()
    searched.expect_search_after(address)
    searched.chips.nth(1).get_by_role("button", name=re.compile("^Remove")).click()
    expect(searched.cropper).to_be_visible()
    expect(searched.chips).to_have_count(0)


def test_region_is_combined_with_a_result(searched: SearchPage, house: House) -> None:
    address = searched.page.url
    searched.drag_box((0.2, 0.2), (0.8, 0.8))
    searched.expect_search_after(address)
    address, wanted = searched.page.url, searched.tile_id(2)
    searched.act(2, "add")
    searched.expect_search_after(address)
    assert searched.image_ids() == [None, wanted]
    assert searched.query()["crop"] is None, "the region has become a picture of its own"
    with Image.open(house.pictures[0]) as image:
        width, height = image.size
    cut = searched.chips.first.locator("img").evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert cut == pytest.approx([0.6 * width, 0.6 * height], rel=0.1)


# --- one picture --------------------------------------------------------------------------------------------


def test_viewer_is_worked_with_the_keyboard(searched: SearchPage) -> None:
    searched.tiles.nth(0).focus()
    keyboard = searched.page.keyboard
    keyboard.press("ArrowRight")
    expect(searched.tiles.nth(1)).to_be_focused()
    keyboard.press("ArrowLeft")
    keyboard.press("Enter")
    position = searched.viewer.locator('[data-fact="position"]')
    expect(position).to_have_text(f"1 of {FIRST_PAGE}")
    keyboard.press("ArrowLeft")
    expect(position).to_have_text(f"1 of {FIRST_PAGE}")
    keyboard.press("ArrowRight")
    keyboard.press("ArrowRight")
    expect(position).to_have_text(f"3 of {FIRST_PAGE}")
    searched.viewer.get_by_role("button", name="Previous picture").click(click_count=2)
    keyboard.press("ArrowLeft")
    expect(position).to_have_text(f"1 of {FIRST_PAGE}")
    keyboard.press("ArrowRight")
    keyboard.press("ArrowRight")
    expect(searched.viewer.locator(".viewer-path")).to_have_text(searched.paths()[2])
    expect(searched.viewer.locator(".viewer-image")).to_have_attribute("src", re.compile("original$"))
    keyboard.press("Escape")
    expect(searched.viewer).to_be_hidden()
    expect(searched.tiles.nth(2)).to_be_focused()


def test_viewer_tells_all_of_a_picture_and_hands_it_out(searched: SearchPage, house: House) -> None:
    searched.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    searched.tiles.nth(1).click()
    viewer, path = searched.viewer, searched.paths()[1]
    expect(viewer.get_by_role("heading")).to_have_text(path.rpartition("/")[2])
    expect(viewer.locator('[data-fact="pixels"]')).to_have_text(re.compile(r"^\d+ \S \d+$"))
    size = house.pictures[1].stat().st_size
    expect(viewer.locator('[data-fact="size"]')).to_have_text(re.compile(rf"^{size / 1000:.1f} KB$|^{size} B$"))
    viewer.get_by_role("button", name="Copy path").click()
    expect(viewer.locator(".copied")).to_have_text("Copied")
    assert searched.page.evaluate("navigator.clipboard.readText()") == path
    with searched.page.expect_download() as download:
        viewer.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == house.pictures[1].name
    assert Path(download.value.path()).read_bytes() == house.pictures[1].read_bytes()


def test_viewer_closes_by_a_click_beside_it(searched: SearchPage) -> None:
    searched.tiles.nth(1).click()
    expect(searched.viewer).to_be_visible()
    searched.page.mouse.click(5, 5)
    expect(searched.viewer).to_be_hidden()
    expect(searched.tiles.nth(1)).to_be_focused()


def test_viewer_loads_more_at_the_end(searched: SearchPage) -> None:
    searched.page.set_viewport_size({"width": 1440, "height": 300})
    searched.tiles.nth(FIRST_PAGE - 1).click()
    searched.page.keyboard.press("ArrowRight")
    expect(searched.viewer.locator('[data-fact="position"]')).to_have_text(re.compile(rf"^{FIRST_PAGE + 1} of \d+$"))


def test_viewer_shows_the_actual_size(searched: SearchPage) -> None:
    searched.tiles.nth(1).click()
    image, zoom = searched.viewer.locator(".viewer-image"), searched.viewer.get_by_role("button", name="Actual size")
    expect(image).to_have_attribute("src", re.compile("original$"))
    searched.page.set_viewport_size({"width": 500, "height": 500})
    zoom.click()
    expect(zoom).to_have_attribute("aria-pressed", "true")
    sizes = image.evaluate(
        "(image) => [image.clientWidth, image.naturalWidth, image.clientHeight, image.naturalHeight]"
    )
    assert sizes[0] == sizes[1]
    assert sizes[2] == sizes[3]
    image.click()
    expect(zoom).to_have_attribute("aria-pressed", "false")


def test_path_is_copied_where_the_browser_gives_no_clipboard(search: SearchPage, house: House) -> None:
    # As over plain HTTP in a local network.
    search.page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    search.page.add_init_script("document.addEventListener('copy', () => (window.copied = String(getSelection())))")
    search.open().choose(house.pictures[0])
    search.expect_results(FIRST_PAGE)
    search.tiles.nth(1).click()
    search.viewer.get_by_role("button", name="Copy path").click()
    expect(search.viewer.locator(".copied")).to_have_text("Copied")
    assert search.page.evaluate("window.copied") == search.paths()[1]
    expect(search.viewer.get_by_role("button", name="Copy path")).to_be_focused()


def test_focus_goes_on_from_the_new_results(searched: SearchPage) -> None:
    address = searched.page.url
    searched.tiles.nth(2).focus()
    searched.page.keyboard.press("Tab")
    searched.page.keyboard.press("Enter")
    searched.expect_search_after(address)
    expect(searched.page.get_by_role("heading", name="Similar pictures", exact=True)).to_be_focused()


def test_viewer_is_swiped_with_a_finger(browser: Browser, house: House) -> None:
    with open_context(browser, PHONE) as context:
        page = context.new_page()
        search = SearchPage(page, house.address).open()
        search.choose(house.pictures[0])
        search.expect_results(FIRST_PAGE)
        expect(search.tiles.nth(1).locator("xpath=..").locator('[data-act="similar"]')).to_be_visible()
        search.tiles.nth(1).tap()
        position = search.viewer.locator('[data-fact="position"]')
        expect(position).to_have_text(f"2 of {FIRST_PAGE}")
        search.swipe((300, 200), (80, 210))
        expect(position).to_have_text(f"3 of {FIRST_PAGE}")
        search.swipe((80, 200), (300, 190))
        search.swipe((80, 200), (300, 190))
        expect(position).to_have_text(f"1 of {FIRST_PAGE}")
