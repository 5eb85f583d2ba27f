"""Live updates: events from the server, and what takes their place where they do not come."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import FoldersPage, Watch
from tests.browser.worlds import World, running_world
from tests.chaos.redis_process import RedisProcess

EVENTS = "**/api/v1/events"
SHOW = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def redis_process() -> Iterator[RedisProcess]:
    """A Redis that can be killed."""
    process = RedisProcess()
    process.start()
    yield process
    process.remove()


@pytest.fixture(scope="module")
def shared_world(redis_process: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server on it."""
    with running_world(tmp_path_factory.mktemp("live"), redis_process.url, ["a.jpg"]) as world:
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


@pytest.fixture
def asked(page: Page) -> list[str]:
    """The calls of the API that the page makes, by their paths."""
    calls: list[str] = []
    page.on("request", lambda request: calls.extend(re.findall(r"/api/v1(/[a-z-]+)$", request.url)))
    return calls


def test_news_come_as_events_and_nothing_is_asked_again(
    folders_page: FoldersPage, world: World, asked: list[str]
) -> None:
    folders_page.open()
    for number in range(3):
        world.jobs.create(f"photos/{number}")
        expect(folders_page.jobs).to_have_count(number + 1)
    assert asked == ["/events"]


def test_where_events_are_blocked_the_page_asks_every_few_seconds(
    folders_page: FoldersPage, world: World, asked: list[str], watch: Watch
) -> None:
    folders_page.page.route(EVENTS, lambda route: route.abort())
    folders_page.open()
    for number in range(2):
        world.jobs.create(f"photos/{number}")
        expect(folders_page.jobs).to_have_count(number + 1)
    assert asked.count("/status") >= 2
    expect(folders_page.page.locator('[data-notice="offline"]')).to_be_hidden()
    watch.forget_failed_answers()


def test_server_that_refuses_events_is_asked_every_few_seconds(
    folders_page: FoldersPage, world: World, asked: list[str], watch: Watch
) -> None:
    folders_page.page.route(EVENTS, lambda route: route.fulfill(status=503))
    folders_page.open()
    world.jobs.create("photos")
    expect(folders_page.jobs).to_have_count(1)
    assert "/status" in asked
    watch.forget_failed_answers()


def test_hidden_page_rests_until_it_is_shown_again(folders_page: FoldersPage, world: World, browser: Browser) -> None:
    page = folders_page.open().page
    expect(folders_page.role("query")).to_contain_text("not running")
    page.evaluate(SHOW, True)
    other = FoldersPage(browser.new_page(), folders_page.origin).open()
    world.jobs.create("photos")
    expect(other.jobs).to_have_count(1)  # by now a visible page has been told
    other.page.close()
    expect(folders_page.jobs).to_have_count(0)
    page.evaluate(SHOW, False)
    expect(folders_page.jobs).to_have_count(1)


def test_lost_connection_is_said_until_it_is_back(folders_page: FoldersPage, world: World, watch: Watch) -> None:
    page = folders_page.open().page
    notice = page.locator('[data-notice="offline"]')
    expect(folders_page.role("query")).to_contain_text("not running")
    page.context.set_offline(True)
    expect(notice).to_contain_text("The server does not answer. Is it still running?")
    page.context.set_offline(False)
    expect(notice).to_be_hidden()
    world.jobs.create("photos")
    expect(folders_page.jobs).to_have_count(1)
    watch.forget_failed_answers()


def test_lost_redis_is_said_until_it_is_back(
    folders_page: FoldersPage, world: World, redis_process: RedisProcess, watch: Watch
) -> None:
    world.jobs.create("photos")
    page = folders_page.open().page
    expect(folders_page.jobs).to_have_count(1)
    notice = page.locator('[data-notice="offline"]')
    redis_process.kill()
    expect(notice).to_contain_text("Redis is not reachable")
    expect(folders_page.jobs).to_have_count(1)  # what was known stays
    redis_process.start()
    expect(notice).to_be_hidden()
    watch.forget_failed_answers()
