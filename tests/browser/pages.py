"""What a person does on the pages, for tests in a real browser."""

from __future__ import annotations

import base64
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

_MAKE_TRANSFER = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  return transfer;
}"""
_PASTE = """(clipboardData) =>
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }))"""


class Watch:
    """Notes what goes wrong behind a page: errors of scripts, blocked or failed requests, outside addresses."""

    def __init__(self, page: Page, origin: str) -> None:
        self._origin = origin
        self.problems: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.problems.append(f"script error: {error}"))
        page.on("request", self._on_request)
        page.on("requestfailed", self._on_failure)

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
        """The results."""
        return self.page.locator("#grid:not(.pending) .tile button")

    @property
    def message(self) -> Locator:
        """The message in the place of results."""
        return self.page.locator("#message")

    @property
    def viewer(self) -> Locator:
        """The dialog with one result."""
        return self.page.locator("dialog.viewer")

    def open(self, path: str = "/") -> SearchPage:
        """Opens the page."""
        self.page.goto(f"{self.origin}{path}")
        return self

    def choose(self, *files: Path) -> None:
        """Picks a file with the button."""
        self.page.locator("#file").set_input_files(files)

    def drop(self, file: Path, media_type: str = "image/jpeg") -> None:
        """Drops a file onto the page."""
        transfer = self._transfer(file, media_type)
        self.page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
        expect(self.page.locator(".drop-overlay")).to_be_visible()
        self.page.dispatch_event("body", "drop", {"dataTransfer": transfer})

    def paste(self, file: Path, media_type: str = "image/jpeg") -> None:
        """Pastes a picture from the clipboard."""
        self.page.evaluate(_PASTE, self._transfer(file, media_type))

    def expect_results(self, count: int, timeout_seconds: float = 20) -> None:
        """Waits for so many results, all with their thumbnails."""
        expect(self.tiles).to_have_count(count, timeout=timeout_seconds * 1000)
        expect(self.page).to_have_url(f"{self.origin}/search/{self.search_id}")

    @property
    def search_id(self) -> str:
        """The id of the search in the address."""
        return self.page.url.rsplit("/", 1)[1]

    def paths(self) -> list[str]:
        """The paths of the results in their order."""
        return [str(path) for path in self.page.locator("#grid .name").evaluate_all("all => all.map(e => e.title)")]

    def _transfer(self, file: Path, media_type: str) -> object:
        data = base64.b64encode(file.read_bytes()).decode()
        return self.page.evaluate_handle(_MAKE_TRANSFER, [file.name, media_type, data])


class FoldersPage:
    """The page of folders and index jobs."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin

    @property
    def jobs(self) -> Locator:
        """The jobs, newest first."""
        return self.page.locator("#jobs .job")

    def open(self) -> FoldersPage:
        """Opens the page."""
        self.page.goto(f"{self.origin}/folders")
        return self

    def index(self, folder: str) -> None:
        """Starts an index job through the form."""
        self.page.get_by_label("Folder to index").fill(folder)
        self.page.get_by_role("button", name="Index", exact=True).click()


def overflows(page: Page) -> bool:
    """Whether the page can be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
