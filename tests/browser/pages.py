"""What a person does on the pages, for tests in a real browser."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Error, Locator, Page, Request, expect

_MAKE_TRANSFER = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  return transfer;
}"""
_MAKE_TEXT = """([kind, text]) => {
  const transfer = new DataTransfer();
  transfer.setData(kind, text);
  return transfer;
}"""
_PASTE = """(clipboardData) =>
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }))"""


class Watch:
    """Notes what goes wrong behind a page: errors of scripts, blocked or failed requests, outside addresses."""

    def __init__(self, page: Page, origin: str) -> None:
        self._origin = origin
        self._page = page
        self.problems: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", self._on_error)
        page.on("request", self._on_request)
        page.on("requestfailed", self._on_failure)

    def end(self) -> None:
        """Takes no note of what comes after this."""
        self._page.remove_listener("console", self._on_console)
        self._page.remove_listener("pageerror", self._on_error)
        self._page.remove_listener("request", self._on_request)
        self._page.remove_listener("requestfailed", self._on_failure)

    def forget_failed_answers(self) -> None:
        """Drops the console's notes of 4xx and 5xx answers and lost connections, where a test provokes them."""
        self.problems = [
            problem
            for problem in self.problems
            if "Failed to load resource" not in problem and "request failed" not in problem
        ]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(f"console: {message.text}")

    def _on_error(self, error: Error) -> None:
        self.problems.append(f"script error: {error}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self._origin, "data:", "blob:")):
            self.problems.append(f"outside request: {request.url}")

    def _on_failure(self, request: Request) -> None:
        # A page that is left, or a search that is replaced, gives up its requests.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.problems.append(f"request failed: {request.url} {request.failure}")


class SearchPage:
    """The search page."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin

    @property
    def tiles(self) -> Locator:
        """The results that are shown."""
        return self.page.locator('.results[data-state="results"] #grid .tile:not([hidden]) .tile-open')

    @property
    def message(self) -> Locator:
        """The message in the place of results."""
        return self.page.locator("#message")

    @property
    def note(self) -> Locator:
        """What stands beside the heading of the results."""
        return self.page.locator("#results-note")

    @property
    def chips(self) -> Locator:
        """The pictures of a search for several."""
        return self.page.locator(".query-chip")

    @property
    def cropper(self) -> Locator:
        """The picture that is searched for, with the box on it."""
        return self.page.locator(".cropper")

    @property
    def viewer(self) -> Locator:
        """The dialog with one result."""
        return self.page.locator("dialog.viewer")

    def open(self, path: str = "/") -> SearchPage:
        """Opens the page."""
        self.page.goto(f"{self.origin}{path}")
        return self

    def choose(self, *files: Path) -> None:
        """Picks files with the button."""
        self.page.locator("#file").set_input_files(files)

    def drop(self, file: Path, media_type: str = "image/jpeg") -> None:
        """Drops a file onto the page."""
        transfer = self._transfer(file, media_type)
        self.page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
        expect(self.page.locator(".drop-overlay")).to_be_visible()
        self.page.dispatch_event("body", "drop", {"dataTransfer": transfer})

    def drop_text(self, kind: str, text: str) -> None:
        """Drops what another window offers in a media type, such as `text/uri-list`."""
        transfer = self.page.evaluate_handle(_MAKE_TEXT, [kind, text])
        self.page.dispatch_event("body", "drop", {"dataTransfer": transfer})

    def paste(self, file: Path, media_type: str = "image/jpeg") -> None:
        """Pastes a picture from the clipboard."""
        self.page.evaluate(_PASTE, self._transfer(file, media_type))

    def paste_text(self, text: str) -> None:
        """Pastes a text from the clipboard."""
        self.page.evaluate(_PASTE, self.page.evaluate_handle(_MAKE_TEXT, ["text/plain", text]))

    def expect_results(self, count: int, timeout_seconds: float = 20) -> None:
        """Waits for so many results."""
        expect(self.tiles).to_have_count(count, timeout=timeout_seconds * 1000)
        expect(self.page).to_have_url(re.compile(rf"{re.escape(self.origin)}/search/[0-9a-f]{{24}}(#.*)?$"))

    def expect_search_after(self, address: str) -> None:
        """Waits for the results of another search than the one at an address."""
        expect(self.page).not_to_have_url(address)
        expect(self.tiles).not_to_have_count(0)

    def expect_crop(self, *crop: float, within: float = 0.02) -> None:
        """Checks the region that is searched for."""
        found = self.query()["crop"]
        assert found == pytest.approx(crop, abs=within), found

    @property
    def search_id(self) -> str:
        """The id of the search in the address."""
        return self.page.url.rsplit("/", 1)[1].partition("#")[0]

    def query(self) -> dict[str, Any]:
        """What the server was asked in the search of the address."""
        answer = self.page.request.get(f"{self.origin}/api/v1/searches/{self.search_id}")
        query: dict[str, Any] = answer.json()["query"]
        return query

    def image_ids(self) -> list[str | None]:
        """The indexed pictures that the search of the address is for; None for uploaded ones."""
        return [image["image_id"] for image in self.query()["images"]]

    def paths(self) -> list[str]:
        """The paths of the results in their order."""
        return [
            str(path) for path in self.page.locator("#grid .tile-name").evaluate_all("all => all.map(e => e.title)")
        ]

    def tile_id(self, index: int) -> str:
        """The id of the picture of a result."""
        return str(self.tiles.nth(index).locator("xpath=..").get_attribute("data-id"))

    def act(self, index: int, action: str) -> None:
        """Clicks a button of a result: `similar`, `add` or `subtract`."""
        tile = self.tiles.nth(index).locator("xpath=..")
        tile.hover()
        tile.locator(f'[data-act="{action}"]').click()

    def drag_box(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drags with the mouse from one point of the query's picture to another, both in fractions of its sides."""
        mouse = self.page.mouse
        mouse.move(*self.point(*start))
        mouse.down()
        mouse.move(*self.point((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
        mouse.move(*self.point(*end))
        mouse.up()

    def swipe(self, *points: tuple[float, float]) -> None:
        """Moves a finger over the screen, from point to point."""
        touch = self.page.context.new_cdp_session(self.page)
        for number, (x, y) in enumerate(points):
            kind = "touchMove" if number else "touchStart"
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the query's picture on the screen."""
        expect(self.cropper).to_be_visible()
        box = self.cropper.bounding_box()
        assert box is not None
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def _transfer(self, file: Path, media_type: str) -> object:
        data = base64.b64encode(file.read_bytes()).decode()
        return self.page.evaluate_handle(_MAKE_TRANSFER, [file.name, media_type, data])


class FoldersPage:
    """The page of index jobs, workers and queues."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin

    @property
    def jobs(self) -> Locator:
        """The jobs: those that go on first, each part newest first."""
        return self.page.locator("#jobs .job")

    def role(self, queue: str) -> Locator:
        """A kind of work, with its queue and its workers."""
        return self.page.locator(f'[data-role="{queue}"]')

    def open(self, query: str = "") -> FoldersPage:
        """Opens the page."""
        self.page.goto(f"{self.origin}/folders{query}")
        return self

    def index(self, folder: str) -> None:
        """Starts an index job through the form."""
        self.page.get_by_label("Folder to index").fill(folder)
        self.page.get_by_role("button", name="Index", exact=True).click()


class BrowsePage:
    """The indexed pictures by folder."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin

    @property
    def folders(self) -> Locator:
        """The cards of the folders."""
        return self.page.locator(".folder-card")

    @property
    def tiles(self) -> Locator:
        """The pictures."""
        return self.page.locator(".gallery.laid-out .tile")

    @property
    def trail(self) -> Locator:
        """The folders on the way."""
        return self.page.get_by_role("navigation", name="Folders on the way").get_by_role("link")

    @property
    def viewer(self) -> Locator:
        """The dialog with one picture."""
        return self.page.locator("dialog.viewer")

    def open(self, path: str = "") -> BrowsePage:
        """Opens the page of a folder, whose address is given quoted."""
        self.page.goto(f"{self.origin}/browse{path}")
        return self


class DuplicatesPage:
    """The near-duplicates."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin

    @property
    def groups(self) -> Locator:
        """The groups that are shown."""
        return self.page.locator("#groups .group")

    @property
    def comparing(self) -> Locator:
        """What is shown while a job goes on."""
        return self.page.locator("#comparing")

    def open(self, query: str = "") -> DuplicatesPage:
        """Opens the page."""
        self.page.goto(f"{self.origin}/duplicates{query}")
        return self

    def start(self) -> None:
        """Starts a search with what the form says."""
        self.page.get_by_role("button", name="Find duplicates").click()


def overflows(page: Page) -> bool:
    """Whether the page can be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def wait_for(page: Page, expression: str, arg: object = None) -> None:
    """Waits until a script's expression, or what its function returns, is true.

    Playwright's own `wait_for_function` evaluates text in the page, which our Content-Security-Policy forbids as soon
    as the first attempt is not enough.
    """
    deadline = time.monotonic() + 15
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"not true in time: {expression}"
        page.wait_for_timeout(25)
