"""The pages as people use them, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.pages import SearchPage, overflows


@pytest.mark.parametrize("path", ["/", "/api/docs"])
def test_no_page_scrolls_sideways(search_page: SearchPage, path: str) -> None:
    search_page.open(path)
    expect(search_page.page.get_by_role("navigation", name="Main")).to_be_visible()
    for width in (320, 390, 768, 1024, 1440):
        search_page.page.set_viewport_size({"width": width, "height": 844})
        assert not overflows(search_page.page), width


def test_pages_are_reached_with_the_keyboard(search_page: SearchPage) -> None:
    search_page.open()
    focused = []
    for _ in range(10):
        search_page.page.keyboard.press("Tab")
        focused.append(search_page.page.evaluate("document.activeElement.id || document.activeElement.innerText"))
    assert focused[:7] == ["Skip to content", "Imagesearch", "Search", "Browse", "Indexing", "Duplicates", "API"]
    assert "file" in focused
