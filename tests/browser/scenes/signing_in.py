"""Signing in, and the pages for somebody who has."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.scenes.scene import scene, visit
from tests.browser.stage import TOKEN, Stage


def send_token(page: Page, stage: Stage, token: str, path: str = "/browse") -> None:
    """Opens an address that needs the token, and gives one."""
    page.context.clear_cookies()
    visit(page, stage, path)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


@scene("private")
def signin_page(page: Page, stage: Stage) -> None:
    """A server that shows nothing without its token."""
    page.context.clear_cookies()
    visit(page, stage, "/browse")
    expect(page).to_have_url(re.compile("/sign-in"))


@scene("private", provokes=True)
def signin_wrong(page: Page, stage: Stage) -> None:
    """Another token was given."""
    send_token(page, stage, "wrong")
    expect(page.get_by_role("alert")).to_be_visible()


@scene("private")
def signin_done(page: Page, stage: Stage) -> None:
    """Who has signed in can sign out again."""
    send_token(page, stage, TOKEN)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    expect(page.locator(".gallery .tile").first).to_be_visible()
