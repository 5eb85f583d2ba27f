"""A real browser on the real server, with a real Redis and store; a thread plays the query worker."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from pydantic import SecretStr

from benchmarks.system import running_web
from common.redis_client import key
from common.settings import Settings
from tests.browser.pages import FoldersPage, SearchPage, Watch
from tests.conftest import ASSETS
from tests.unit.web.building import answer_search, index_files, report_worker, search_board

PICTURES = 24
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


class PlayedWorker:
    """Answers every queued search from the store, as long as it is `on`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.on = True
        self.error: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        board = search_board(self.settings)
        with redis.Redis.from_url(self.settings.redis_url) as client:
            while not self._stop.wait(0.05):
                if not self.on:
                    continue
                report_worker(self.settings)
                for name in client.scan_iter(match=key("search", "?" * 24)):
                    search_id = name.decode().rsplit(":", 1)[1]
                    if board.record(search_id).result.state == "queued":
                        answer_search(self.settings, search_id, error=self.error)


@pytest.fixture
def pictures(settings: Settings, library: Path) -> list[Path]:
    """Indexed pictures of the library: real photos where there are some, painted ones elsewhere."""
    photos = ASSETS / "images" / "corel1k"
    names = []
    for number in range(PICTURES):
        name = f"{('beach', 'city', 'garden')[number % 3]}/picture-{number:02}.jpg"
        (library / name).parent.mkdir(exist_ok=True)
        photo = photos / f"{number * 41}.jpg"
        if photo.is_file():
            shutil.copy(photo, library / name)
        else:
            size = (96, 64) if number % 2 else (64, 96)
            Image.new("HSV", size, (number * 10, 120, 200)).convert("RGB").save(library / name)
        names.append(name)
    index_files(settings, library, names)
    return [library / name for name in sorted(names)]


@pytest.fixture
def worker(settings: Settings, pictures: list[Path]) -> Iterator[PlayedWorker]:
    """Somebody who answers searches."""
    played = PlayedWorker(settings)
    yield played
    played.stop()


@pytest.fixture
def api_token() -> str:
    """The server's token; a test that wants one sets it by a parameter of this name."""
    return ""


@pytest.fixture
def server(settings: Settings, api_token: str) -> Iterator[str]:
    """The web tier in a process of its own. Gives its address."""
    token = SecretStr(api_token) if api_token else None
    with running_web(settings.model_copy(update={"api_token": token, "max_upload_bytes": 2 << 20})) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        pytest.skip(f"none of these is installed: {', '.join(names)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a fresh browser profile."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def watch(page: Page, server: str) -> Iterator[Watch]:
    """Fails the test if anything went wrong behind the page."""
    watch = Watch(page, server)
    yield watch
    assert watch.problems == []


@pytest.fixture
def search_page(page: Page, server: str, watch: Watch) -> SearchPage:
    """The search page."""
    return SearchPage(page, server)


@pytest.fixture
def folders_page(page: Page, server: str, watch: Watch) -> FoldersPage:
    """The folders page."""
    return FoldersPage(page, server)
