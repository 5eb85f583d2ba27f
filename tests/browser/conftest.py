"""A real browser on the real server, with a real Redis and store; a thread plays the query worker."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import redis
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from benchmarks.browsing import BrowserMissing, running_chromium
from benchmarks.system import running_redis, running_web
from common.celery_app import QUERY
from common.redis_client import key
from common.settings import LibraryRoot, Settings
from tests.browser.pages import FoldersPage, SearchPage, Watch
from tests.browser.stage import Stage, open_stage
from tests.conftest import ASSETS
from tests.unit.web.building import answer_search, index_files, report_worker, search_board

PICTURES = 24
HOUSE_PICTURES = 100
# The machine may have other work; five seconds, the default, are not always enough for what takes one.
expect.set_options(timeout=15_000)
# Of each family.
STAGE_PICTURES = 4


class PlayedWorker:
    """Answers every queued search from the store, as long as it is `on`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.on = True
        self.error: str | None = None
        self._stop = threading.Event()
        self._working = threading.Lock()
        self._board = search_board(settings)
        self._answered: set[str] = set()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def pause(self) -> None:
        """Answers nothing more until it is `on` again; what it was doing is done then."""
        with self._working:
            self.on = False

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        with redis.Redis.from_url(self.settings.redis_url) as client:
            while not self._stop.wait(0.05):
                with self._working:
                    if self.on:
                        self._answer_all(client)

    def _answer_all(self, client: redis.Redis) -> None:
        report_worker(self.settings)
        client.delete(QUERY)  # the messages that a real worker would have taken
        for name in client.scan_iter(match=key("search", "?" * 24)):
            search_id = name.decode().rsplit(":", 1)[1]
            if search_id in self._answered:
                continue
            if self._board.record(search_id).result.state == "queued":
                answer_search(self.settings, search_id, error=self.error)
            self._answered.add(search_id)


@dataclass(frozen=True)
class House:
    """A running server over a hundred indexed pictures, that all tests share which change nothing of it."""

    settings: Settings
    pictures: list[Path]
    worker: PlayedWorker
    address: str


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The shared server. Its first and its last picture are the same file."""
    folder = tmp_path_factory.mktemp("house")
    library = folder / "photos"
    names = [
        f"{('beach', 'city/north', 'city/south', 'garden')[n % 4]}/picture-{n:02}.jpg" for n in range(HOUSE_PICTURES)
    ]
    with running_redis() as redis_url:
        settings = Settings(
            redis_url=redis_url,
            data_dir=folder / "data",
            library_roots=(LibraryRoot(name="photos", path=library),),
            max_upload_bytes=2 << 20,
            allow_url_queries=True,
        )
        for number, name in enumerate(names[:-1]):
            place_picture(library / name, number * 10)
        shutil.copy(library / names[0], library / names[-1])
        index_files(settings, library, names)
        worker = PlayedWorker(settings)
        try:
            with running_web(settings) as address:
                yield House(settings, [library / name for name in sorted(names)], worker, address)
        finally:
            worker.stop()


@pytest.fixture
def search(page: Page, house: House) -> Iterator[SearchPage]:
    """The search page of the shared server; fails the test if anything went wrong behind the page."""
    watch = Watch(page, house.address)
    yield SearchPage(page, house.address)
    assert watch.problems == []


@pytest.fixture
def search_alone(page: Page, house: House) -> Iterator[SearchPage]:
    """The same for a test that provokes failed answers."""
    watch = Watch(page, house.address)
    yield SearchPage(page, house.address)
    watch.forget_failed_answers()
    assert watch.problems == []


def place_picture(path: Path, number: int) -> None:
    """Puts a picture there: a real photo where there are some, a painted one elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    photo = ASSETS / "images" / "corel1k" / f"{number}.jpg"
    if photo.is_file():
        shutil.copy(photo, path)
    else:
        # As in most collections there are more wide ones than tall ones, so that a page of them is as long.
        size = (64, 96) if number % 3 == 0 else (96, 64)
        Image.new("HSV", size, (number % 256, 120, 200)).convert("RGB").save(path)


@pytest.fixture
def pictures(settings: Settings, library: Path) -> list[Path]:
    """Indexed pictures of the library: real photos where there are some, painted ones elsewhere."""
    names = [f"{('beach', 'city', 'garden')[number % 3]}/picture-{number:02}.jpg" for number in range(PICTURES)]
    for number, name in enumerate(names):
        place_picture(library / name, number * 41)
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
    try:
        with running_chromium() as browser:
            yield browser
    except BrowserMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stage]]:
    """Gives the installation of a kind (see `stage.KINDS`), which is started when it is first asked for."""
    with ExitStack() as stack:
        yield cache(lambda kind: stack.enter_context(open_stage(kind, tmp_path_factory.mktemp(kind), STAGE_PICTURES)))


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
