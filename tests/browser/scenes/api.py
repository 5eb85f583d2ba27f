"""The documentation of the API."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.scenes.scene import scene, visit
from tests.browser.stage import Stage


def call_of(page: Page, stage: Stage, method: str, path: str) -> Locator:
    """Opens the documentation, and waits until a call can be tried."""
    visit(page, stage, "/api/docs")
    call = page.locator(
        ".operation", has=page.locator(".call", has_text=re.compile(rf"^{method}\s+{re.escape(path)}$"))
    )
    expect(call.get_by_role("button", name="Try it")).to_be_attached()
    return call


@scene(part={"exclude": [[".operation ~ .operation ~ .operation"], [".type ~ .type ~ .type"]]})
def api_guide(page: Page, stage: Stage) -> None:
    """From the top."""
    call_of(page, stage, "GET", "/api/v1/status")


@scene("guarded", part=".guide .token")
def api_token(page: Page, stage: Stage) -> None:
    """A server with a token."""
    visit(page, stage, "/api/docs")
    expect(page.locator("#token")).to_be_visible()


@scene(overlay=True, part="form.open")
def api_answer(page: Page, stage: Stage) -> None:
    """A call that was tried, and its answer."""
    call = call_of(page, stage, "GET", "/api/v1/status")
    call.get_by_role("button", name="Try it").click()
    call.get_by_role("button", name="Send").click()
    expect(call.get_by_text('"images"').first).to_be_visible()
    call.evaluate("call => call.scrollIntoView()")


@scene(overlay=True, part="form.open")
def api_form(page: Page, stage: Stage) -> None:
    """A call with many fields, opened."""
    call = call_of(page, stage, "POST", "/api/v1/searches")
    call.get_by_role("button", name="Try it").click()
    call.evaluate("call => call.scrollIntoView()")


@scene(part=".contents")
def api_filter(page: Page, stage: Stage) -> None:
    """Calls that fit some words."""
    visit(page, stage, "/api/docs")
    before = page.locator(".operation:visible").count()
    page.locator("#filter").fill("pause")
    expect(page.locator(".operation:visible")).not_to_have_count(before)
