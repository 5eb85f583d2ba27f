"""A server that shows nothing without its token, and one that lets everybody ask for little, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from playwright.sync_api import Browser, Page, Request, Route, expect

from tests.browser.conftest import House
from tests.browser.pages import FoldersPage, SearchPage, Watch
from tests.browser.scenes.signing_in import send_token
from tests.browser.stage import ROOT, TOKEN, Stage

OpenStage = Callable[[str], Stage]


def test_everything_works_for_who_has_signed_in(page: Page, stage: OpenStage) -> None:
    private = stage("private")
    private.reset()
    watch = Watch(page, private.address)
    send_token(page, private, TOKEN, "/folders")
    expect(page).to_have_url(f"{private.address}/folders")
    # Events come: the job is shown without the page being opened anew.
    folders = FoldersPage(page, private.address)
    folders.index(ROOT)
    job = folders.jobs.first
    job.get_by_role("button", name="Pause").click()
    expect(job.locator(".chip")).to_have_text("paused")
    search = SearchPage(page, private.address).open()
    search.choose(private.library / private.pictures[0])
    expect(search.tiles.nth(5)).to_be_visible()
    search.tiles.first.click()
    image = page.locator("dialog.viewer .viewer-image")
    expect(image).to_have_attribute("src", re.compile("/original$"))
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth") > 0
    assert watch.problems == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_page_whose_session_has_ended_asks_again(page: Page, stage: OpenStage) -> None:
    private = stage("private")
    private.reset()
    send_token(page, private, TOKEN, "/folders")
    expect(page.locator("#no-jobs")).to_be_visible()
    # An open page notices by itself and goes to the sign-in, which a click at that moment would race with.
    page.goto("about:blank")
    page.context.clear_cookies()
    page.goto(private.address)
    expect(page).to_have_url(re.compile(r"/sign-in\?next=/$"))
    send_token(page, private, TOKEN, "/folders")
    expect(page.locator("#no-jobs")).to_be_visible()
    page.context.clear_cookies()
    # The page asks by itself what is new.
    page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(page).to_have_url(re.compile(r"/sign-in\?next=%2Ffolders$"))


def test_signing_in_needs_no_scripts(browser: Browser, stage: OpenStage) -> None:
    private = stage("private")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    send_token(page, private, "wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{private.address}/browse")
    context.close()


def test_a_search_that_comes_too_soon_is_sent_later(search_alone: SearchPage, house: House) -> None:
    refused: list[float] = []

    def refuse_once(route: Route, request: Request) -> None:
        if request.method == "POST" and not refused:
            refused.append(time.monotonic())
            detail = '{"title": "Too Many Requests", "status": 429, "detail": "At most 6 searches a minute."}'
            headers = {"Content-Type": "application/problem+json", "Retry-After": "2"}
            route.fulfill(status=429, headers=headers, body=detail)
        else:
            route.continue_()

    search_alone.page.route("**/api/v1/searches", refuse_once)
    search_alone.open().choose(house.pictures[0])
    expect(search_alone.note).to_have_text("At most 6 searches a minute. It goes on by itself.")
    expect(search_alone.tiles.nth(3)).to_be_visible()
    assert time.monotonic() - refused[0] >= 2
