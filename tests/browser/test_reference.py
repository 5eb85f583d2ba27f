"""The documentation page of the API: every call can be tried on it, and what it shows as code works."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from playwright.sync_api import Browser, Locator, Page, expect
from pydantic import SecretStr

from benchmarks.system import running_web
from common.settings import LibraryRoot, Settings
from tests.browser.conftest import PlayedWorker
from tests.browser.pages import Watch, overflows, wait_for
from tests.unit.web.building import index_files, picture_bytes

PICTURES = 12
MOST_BYTES = 150_000
TOKEN = "s3cret"


@dataclass(frozen=True)
class Site:
    """A server with a token and a small collection."""

    address: str
    image_ids: list[str]
    picture: Path


@pytest.fixture(scope="module")
def site(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server of all tests of this module; somebody answers its searches."""
    folder = tmp_path_factory.mktemp("reference")
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    library = folder / "photos"
    settings = Settings(
        redis_url=redis_server,
        data_dir=folder / "data",
        library_roots=(LibraryRoot(name="photos", path=library),),
        weights="untrained",
        api_token=SecretStr(TOKEN),
    )
    entries = index_files(settings, library, [f"{number:02}.jpg" for number in range(PICTURES)])
    picture = folder / "picture.jpg"
    picture.write_bytes(picture_bytes())
    worker = PlayedWorker(settings)
    try:
        with running_web(settings) as address:
            yield Site(address, [entry.image_id for entry in entries], picture)
    finally:
        worker.stop()


class Call:
    """A call on the page."""

    def __init__(self, page: Page, name: str) -> None:
        self.box = page.locator(f"#{name}")

    @property
    def answer(self) -> Locator:
        """The whole answer."""
        return self.box.locator(".answer")

    def open(self) -> Call:
        """Shows the fields."""
        self.box.get_by_role("button", name="Try it").click()
        return self

    def fill(self, **values: str) -> Call:
        """Puts values into fields that take text."""
        for name, value in values.items():
            self.box.get_by_label(name, exact=True).fill(value)
        return self

    def send(self, status: str) -> Call:
        """Sends it, and waits for an answer with this status."""
        self.box.get_by_role("button", name="Send").click()
        return self.expect(status)

    def expect(self, status: str) -> Call:
        """Waits for an answer with this status."""
        expect(self.answer.get_by_role("status")).to_contain_text(status)
        return self

    def follow(self, text: str) -> None:
        """Goes on from the answer."""
        self.answer.get_by_role("button", name=text).click()

    def json(self) -> Any:
        """The JSON of the answer."""
        return json.loads(self.answer.locator("pre").inner_text())

    def code(self, language: str = "curl") -> str:
        """The call as code."""
        self.box.get_by_role("tab", name=language).click()
        return self.box.locator(".example").inner_text()


@pytest.fixture
def watched(page: Page, site: Site) -> Iterator[Watch]:
    """Fails the test if anything went wrong behind the page."""
    watch = Watch(page, site.address)
    yield watch
    assert watch.problems == []


@pytest.fixture
def docs(page: Page, site: Site, watched: Watch) -> Page:
    """The page, opened."""
    page.goto(f"{site.address}/api/docs")
    expect(page.get_by_role("tab", name="curl").first).to_be_visible()
    return page


def run(command: list[str], folder: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- trying a call ------------------------------------------------------------------------------------------


def test_search_is_sent_read_and_continued(docs: Page, site: Site) -> None:
    search, result = Call(docs, "create-search"), Call(docs, "get-search")
    search.open().fill(k="5").box.get_by_label("image", exact=True).set_input_files(site.picture)
    search.send("202 ACCEPTED")
    expect(search.answer.locator("dl")).to_contain_text("/api/v1/searches/")
    search.follow("Read the result")
    result.expect("200 OK")
    expect(result.answer).to_be_focused()
    expect(result.box.get_by_label("search_id")).to_have_value(search.json()["id"])
    assert [hit["rank"] for hit in result.json()["results"]] == [1, 2, 3, 4, 5]

    result.follow("Next page")
    search.expect("202 ACCEPTED")
    expect(search.box.get_by_label("JSON", exact=True)).to_be_checked()
    search.follow("Read the result")
    expect(result.answer.locator("pre")).to_contain_text('"rank": 6')
    result.follow("First picture")
    original = Call(docs, "get-original").expect("200 OK")
    wait_for(docs, "document.querySelector('#get-original .answer img').naturalWidth > 0")
    expect(original.answer.locator("dl")).to_contain_text("image/jpeg")


def test_lists_are_read_page_by_page(docs: Page) -> None:
    images = Call(docs, "list-images").open().fill(folder="photos", limit="8").send("200 OK")
    assert [image["path"] for image in images.json()["images"]] == [f"photos/{number:02}.jpg" for number in range(8)]
    images.follow("Next page")
    expect(images.box.get_by_label("cursor")).not_to_be_empty()
    expect(images.answer.locator("pre")).to_contain_text("photos/08.jpg")
    assert len(images.json()["images"]) == PICTURES - 8
    expect(images.answer.get_by_role("button", name="Next page")).to_have_count(0)
    images.follow("First picture")
    assert Call(docs, "get-image").expect("200 OK").json()["path"] == "photos/08.jpg"


def test_token_is_asked_for_once_and_kept(docs: Page, watched: Watch) -> None:
    job = Call(docs, "create-job").open().fill(folder="photos").send("401 UNAUTHORIZED")
    watched.forget_failed_answers()
    job.follow("Enter the token")
    token = docs.get_by_label("Token of this server")
    expect(token).to_be_focused()
    token.fill(TOKEN)
    job.send("202 ACCEPTED")
    job.follow("Read the job")
    Call(docs, "get-job").expect("200 OK").follow("Cancel")
    assert Call(docs, "cancel-job").expect("200 OK").json()["state"] == "cancelled"
    docs.reload()
    # The browser is signed in; no script can read what for.
    expect(docs.get_by_label("Token of this server")).to_have_value("")
    Call(docs, "create-job").open().fill(folder="photos").send("202 ACCEPTED")
    assert docs.evaluate("[document.cookie, sessionStorage.length, localStorage.length]") == ["", 0, 0]
    assert TOKEN not in docs.locator("main").inner_text()


def test_what_is_wrong_with_a_field_stands_beside_it(docs: Page, site: Site, watched: Watch) -> None:
    search = Call(docs, "create-search").open()
    search.box.get_by_label("JSON", exact=True).check()
    expect(search.box.get_by_label("image", exact=True)).to_be_hidden()
    search.fill(image_id=site.image_ids[0], k="5000").send("422 UNPROCESSABLE ENTITY")
    watched.forget_failed_answers()
    expect(search.box.locator('[data-name="k"] .problem')).to_contain_text("less than or equal to 1000")
    search.fill(k="3").send("202 ACCEPTED")
    expect(search.box.locator(".problem")).to_have_count(0)

    thumbnail = Call(docs, "get-thumbnail").open()
    thumbnail.box.get_by_role("button", name="Send").click()
    expect(thumbnail.box.locator(".problem")).to_have_text("This is needed for the address.")
    expect(thumbnail.box.get_by_label("image_id")).to_be_focused()
    expect(thumbnail.answer).to_be_hidden()


def test_events_are_shown_until_they_are_stopped(docs: Page) -> None:
    events = Call(docs, "follow-events").open().send("200 OK")
    expect(events.answer.locator("pre")).to_contain_text("event: status")
    expect(events.answer.locator("pre")).to_contain_text('"images":12')
    events.box.get_by_role("button", name="Stop").click()
    expect(events.answer.get_by_role("status")).to_have_text("Stopped")
    expect(events.box.get_by_role("button", name="Stop")).to_be_hidden()


def test_lost_server_is_said(docs: Page, watched: Watch) -> None:
    status = Call(docs, "get-status").open()
    docs.context.set_offline(True)
    status.box.get_by_role("button", name="Send").click()
    status.expect("The server cannot be reached.")
    watched.forget_failed_answers()


# --- calls as code ------------------------------------------------------------------------------------------


def test_examples_are_there_before_the_script_and_the_same(docs: Page, site: Site) -> None:
    sent = requests.get(f"{site.address}/api/docs", timeout=10).text
    docs.evaluate(
        """(sent) => {
          const page = new DOMParser().parseFromString(sent, "text/html");
          for (const operation of document.querySelectorAll(".operation")) {
            const [before, now] = [page, document].map(
              (root) => root.querySelector(`#${operation.id} .example`).textContent,
            );
            if (before !== now) throw new Error(`${before}\\nis now\\n${now}`);
          }
        }""",
        sent,
    )


def test_code_follows_what_is_put_in_and_works(docs: Page, site: Site) -> None:
    search = Call(docs, "create-search").open().fill(k="4", folder="photos", crop="0,0,0.5,1")
    search.box.get_by_label("image", exact=True).set_input_files(site.picture)
    command = search.code()
    assert "-F image=@picture.jpg" in command
    assert "-F crop=0,0,0.5,1" in command
    assert set(json.loads(run(["bash", "-c", command], site.picture.parent))) == {"id", "state", "url"}
    assert "'state': 'queued'" in run([sys.executable, "-c", search.code("Python")], site.picture.parent)

    search.box.get_by_label("JSON", exact=True).check()
    search.fill(
        images=f'[{{"image_id": "{site.image_ids[0]}"}}, {{"image_id": "{site.image_ids[1]}", "weight": -0.5}}]'
    )
    search.fill(crop="")
    assert json.loads(run(["bash", "-c", search.code()], site.picture.parent))["state"] == "queued"
    assert "'state': 'queued'" in run([sys.executable, "-c", search.code("Python")], site.picture.parent)
    with docs.expect_console_message() as logged:
        docs.evaluate(f"(async () => {{ {search.code('JavaScript')} }})()")
    assert logged.value.args[0].json_value()["state"] == "queued"


def test_texts_with_signs_of_the_shell_stay_what_they_are(docs: Page, site: Site) -> None:
    folder = """@it's; $(x) `y` "z\\\""""
    search = Call(docs, "create-search").open().fill(folder=folder)
    search.box.get_by_label("image", exact=True).set_input_files(site.picture)
    # The answer repeats the folder.
    answer = json.loads(run(["bash", "-c", search.code()], site.picture.parent))
    assert answer["detail"].startswith(folder)
    assert ast.literal_eval(run([sys.executable, "-c", search.code("Python")], site.picture.parent)) == answer


def test_all_curl_examples_can_be_run(docs: Page, site: Site, tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(site.picture.read_bytes())
    for box in docs.locator(".operation").all():
        name = str(box.get_attribute("id"))
        command = box.locator(".example").inner_text()
        if name == "follow-events":
            command = command.replace("curl", "curl --max-time 0.5") + " || true"
        output = run(["bash", "-c", command.replace("curl", "curl -sS", 1)], tmp_path)
        assert output or "-o picture.jpg" in command, command


# --- the page -----------------------------------------------------------------------------------------------


def test_page_is_light(docs: Page) -> None:
    docs.wait_for_load_state("networkidle")
    sizes = docs.evaluate(
        """() => Object.fromEntries([...performance.getEntriesByType("navigation"),
          ...performance.getEntriesByType("resource")].map((entry) => [entry.name, entry.decodedBodySize]))"""
    )
    assert len(sizes) >= 8
    assert sum(sizes.values()) < MOST_BYTES, sizes


def test_calls_are_filtered(docs: Page) -> None:
    docs.get_by_label("Filter calls").fill("thumbnail get")
    expect(docs.locator(".operation:visible h3")).to_have_text(["Thumbnail of an image"])
    expect(docs.get_by_role("navigation", name="Calls").locator("li:visible")).to_have_count(1)
    expect(docs.locator("#filter-note")).to_have_text("1 call")
    docs.get_by_label("Filter calls").fill("no such call")
    expect(docs.locator("#filter-note")).to_have_text("No call fits.")
    docs.get_by_label("Filter calls").fill("")
    expect(docs.locator("#guide")).to_be_visible()
    assert docs.locator(".operation:visible").count() == docs.locator(".operation").count() > 20


def test_call_is_tried_with_the_keyboard(docs: Page, watched: Watch) -> None:
    keyboard = docs.keyboard
    status = Call(docs, "get-image")
    status.box.get_by_role("tab", name="curl").focus()
    keyboard.press("ArrowRight")
    expect(status.box.get_by_role("tab", name="Python")).to_be_focused()
    expect(status.box.locator(".example")).to_contain_text("import requests")
    keyboard.press("Tab")
    expect(status.box.get_by_role("button", name="Copy")).to_be_focused()
    keyboard.press("Tab")
    keyboard.press("Tab")
    keyboard.press("Enter")
    expect(status.box.get_by_label("image_id")).to_be_focused()
    keyboard.type("0" * 32)
    keyboard.press("Enter")
    status.expect("404 NOT FOUND")
    watched.forget_failed_answers()


@pytest.mark.parametrize("width", [320, 820])
def test_open_calls_fit_every_width(docs: Page, width: int) -> None:
    docs.set_viewport_size({"width": width, "height": 800})
    for name in ("create-search", "list-images", "create-job"):
        Call(docs, name).open()
    Call(docs, "get-status").open().send("200 OK")
    assert not overflows(docs)


def test_code_is_copied(browser: Browser, site: Site) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{site.address}/api/docs")
    status = Call(page, "get-status")
    status.box.get_by_role("button", name="Copy").click()
    expect(status.box.get_by_role("button", name="Copied")).to_be_visible()
    assert re.fullmatch(r"curl http://127\.0\.0\.1:\d+/api/v1/status", page.evaluate("navigator.clipboard.readText()"))
    context.close()
