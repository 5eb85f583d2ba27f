"""A real Chromium, and what a page costs in it: bytes and the first thing that is drawn."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, Request, sync_playwright

# First the one that has no windows at all: the same engine takes a third less of the processor in it.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# Nothing that the browser does for itself: no updates, no outside requests, no sandbox inside of containers.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
_FIRST_PAINT = """() => new Promise((resolve) => {
  const name = "first-contentful-paint";
  new PerformanceObserver((entries) => {
    const found = entries.getEntriesByName(name)[0];
    if (found) resolve(found.startTime);
  }).observe({ type: "paint", buffered: true });
})"""


class BrowserMissing(Exception):
    """There is no Chromium on the PATH."""

    def __init__(self) -> None:
        super().__init__(f"none of these is installed: {', '.join(_NAMES)}")


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """The Chromium of this machine, without a window.

    Raises:
        BrowserMissing: It has none.
    """
    binary = next(filter(None, map(shutil.which, _NAMES)), None)
    if binary is None:
        raise BrowserMissing
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def first_paint_ms(page: Page) -> float:
    """When the first text or picture of the page was drawn, in milliseconds after its address was entered."""
    return float(page.evaluate(_FIRST_PAINT))


class Weight:
    """Counts what a page takes over the network as it comes, headers included; make it before the page is opened.

    Pictures do not count; neither does what comes from the browser's cache, nor the stream of events, which never
    ends.
    """

    def __init__(self, page: Page) -> None:
        self._requests: list[Request] = []
        page.on("requestfinished", lambda request: self._requests.append(request))

    def bytes(self) -> dict[str, int]:
        """The bytes of each kind of file (`document`, `script`, `stylesheet`, `fetch`, …)."""
        found: dict[str, int] = {}
        for request in list(self._requests):
            if request.resource_type != "image":
                sizes = request.sizes()
                taken = sizes["responseHeadersSize"] + sizes["responseBodySize"]
                found[request.resource_type] = found.get(request.resource_type, 0) + max(0, taken)
        return found
