"""What the search page says when something is not as it should be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import expect

from benchmarks.system import wait_until
from common.celery_app import QUERY
from common.redis_client import key
from common.search_interest import LEAVING_SECONDS
from common.settings import Settings
from tests.browser.conftest import PICTURES, House, PlayedWorker
from tests.browser.pages import SearchPage, Watch
from tests.redis_troubles import full


def test_empty_collection_says_how_to_start(search_page: SearchPage) -> None:
    search_page.open()
    expect(search_page.page.get_by_role("heading", name="No pictures are indexed yet")).to_be_visible()
    expect(search_page.page.locator(".steps li")).to_have_count(3)
    expect(search_page.page.locator(".samples")).to_have_count(0)


def test_waiting_without_a_worker_is_explained_and_ends_when_one_comes(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker, settings: Settings
) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        worker.pause()
        client.delete(key("worker", "query@desk:4711"))
        search_page.open()
        notice = search_page.page.locator('[data-notice="worker-missing"]')
        expect(notice).to_be_visible()
        search_page.choose(pictures[0])
        expect(search_page.note).to_contain_text("imagesearch worker --queues query")
    worker.on = True
    search_page.expect_results(PICTURES)
    expect(notice).to_be_hidden()


def test_what_is_wrong_is_said_and_goes_with_its_cause(search_page: SearchPage, settings: Settings) -> None:
    search_page.open()
    notice = search_page.page.locator('[data-notice="problems"]')
    expect(notice).to_be_hidden()
    with redis.Redis.from_url(settings.redis_url) as client, full(client):
        expect(notice).to_contain_text("Redis has no memory left (maxmemory)")
    expect(notice).to_be_hidden()


# --- on the shared server -----------------------------------------------------------------------------------


@pytest.fixture
def paused(house: House) -> Iterator[PlayedWorker]:
    """The shared server's worker, answering nothing until it is `on` again."""
    house.worker.pause()
    yield house.worker
    house.worker.error = None
    house.worker.on = True


def test_long_queue_is_told(search: SearchPage, house: House, paused: PlayedWorker) -> None:
    with redis.Redis.from_url(house.settings.redis_url) as client:
        waiting = int(client.llen(QUERY))
        client.lpush(QUERY, *["search"] * 7)
        search.open().choose(house.pictures[0])
        expect(search.note).to_have_text(re.compile(rf"^{waiting + 7} searches are before this one"), timeout=10_000)
        client.delete(QUERY)
    paused.on = True
    expect(search.tiles).not_to_have_count(0)


def test_failed_search_says_why_and_can_be_tried_again(search: SearchPage, house: House, paused: PlayedWorker) -> None:
    paused.error = "The image is damaged and cannot be decoded."
    paused.on = True
    search.open().choose(house.pictures[0])
    expect(search.message).to_contain_text("The image is damaged")
    search.page.reload()
    expect(search.message).to_contain_text("The image is damaged")
    paused.error = None
    search.choose(house.pictures[0])
    expect(search.tiles).not_to_have_count(0)


def test_failed_search_is_tried_again_with_a_button(search: SearchPage, house: House, paused: PlayedWorker) -> None:
    paused.error = "The image is damaged and cannot be decoded."
    paused.on = True
    search.open().choose(house.pictures[0])
    expect(search.message).to_contain_text("The image is damaged")
    paused.error = None
    search.message.get_by_role("button", name="Try again").click()
    expect(search.tiles).not_to_have_count(0)


def test_wait_for_an_answer_ends(search: SearchPage, house: House, paused: PlayedWorker) -> None:
    search.page.clock.install()
    search.open().choose(house.pictures[0])
    expect(search.page).to_have_url(re.compile("/search/"))
    search.page.clock.fast_forward("02:01")
    expect(search.message).to_contain_text("No answer came")
    paused.on = True
    search.message.get_by_role("button", name="Try again").click()
    search.page.clock.run_for(1000)
    expect(search.tiles).not_to_have_count(0)


def test_page_of_a_search_that_waits_follows_it(search: SearchPage, house: House, paused: PlayedWorker) -> None:
    listed = search.page.request.get(f"{house.address}/api/v1/images?limit=1").json()["images"][0]
    accepted = search.page.request.post(
        f"{house.address}/api/v1/searches", data={"image_id": listed["image_id"], "k": 12}
    ).json()
    search.open(f"/search/{accepted['id']}")
    expect(search.page.get_by_role("heading", name="Searching…")).to_be_visible()
    paused.on = True
    search.expect_results(12)
    expect(search.cropper.locator("img")).to_be_visible()


def test_page_that_does_not_wait_any_more_says_so(search: SearchPage, house: House, paused: PlayedWorker) -> None:
    def is_wanted(search_id: str) -> bool:
        return client.pttl(key("search", search_id, "wanted")) > LEAVING_SECONDS * 1000

    def shown() -> str:
        expect(search.page).to_have_url(re.compile("/search/"))
        return search.page.url.rpartition("/")[2]

    with redis.Redis.from_url(house.settings.redis_url) as client:
        search.open().choose(house.pictures[0])
        first = shown()
        wait_until(lambda: is_wanted(first), "the page waits")
        search.choose(house.pictures[1])
        search.page.wait_for_url(lambda address: "/search/" in address and not address.endswith(first))
        second = shown()
        wait_until(lambda: is_wanted(second) and not is_wanted(first), "it waits for the second one only")
        search.page.goto("about:blank")
        wait_until(lambda: not is_wanted(second), "it has gone")


def test_what_is_no_picture_is_refused_with_the_servers_reason(
    house: House, search_alone: SearchPage, tmp_path: Path
) -> None:
    fake = tmp_path / "fake.jpg"
    fake.write_text("not a picture", encoding="utf-8")
    search_alone.open().choose(fake)
    expect(search_alone.message).to_contain_text("Not an image in a supported format")
    search_alone.choose(house.pictures[0])
    expect(search_alone.tiles).not_to_have_count(0)
    expect(search_alone.message).to_be_hidden()


def test_unreachable_server_is_said_and_the_search_made_when_it_is_back(house: House, search_alone: SearchPage) -> None:
    search_alone.open()
    context = search_alone.page.context
    context.set_offline(True)
    search_alone.choose(house.pictures[0])
    expect(search_alone.message).to_contain_text("The server cannot be reached")
    expect(search_alone.message.get_by_role("button", name="Try again")).to_be_visible()
    context.set_offline(False)
    expect(search_alone.tiles).not_to_have_count(0)


def test_no_result_in_a_folder_leads_to_all_folders(search: SearchPage, house: House) -> None:
    listed = search.page.request.get(f"{house.address}/api/v1/images?limit=1").json()["images"][0]
    accepted = search.page.request.post(
        f"{house.address}/api/v1/searches", data={"image_id": listed["image_id"], "folder": "photos/nothing"}
    ).json()
    search.open(f"/search/{accepted['id']}")
    expect(search.message).to_contain_text("No similar picture was found")
    search.message.get_by_role("button", name="All folders").click()
    expect(search.tiles).not_to_have_count(0)


def test_lost_file_is_shown_by_its_thumbnail(
    search_page: SearchPage, pictures: list[Path], worker: PlayedWorker, watch: Watch
) -> None:
    search_page.open().choose(pictures[0])
    search_page.expect_results(PICTURES)
    pictures[0].unlink()
    search_page.tiles.first.click()
    expect(search_page.viewer.locator(".viewer-note")).to_contain_text("cannot be read any more")
    expect(search_page.viewer.locator(".viewer-image")).to_have_attribute("src", re.compile("thumbnail$"))
    watch.forget_failed_answers()
