"""The pages as they arrive, before any script runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from common.settings import Settings
from tests.unit.web.building import SPEC, index_files, report_worker
from web.texts import all_texts

MakeClient = Callable[..., FlaskClient]
STATIC = Path(__file__).parents[3] / "web" / "static"


def shown(page: str, notice: str) -> bool:
    """Whether a notice of the page is visible."""
    tag = re.search(rf'<[^>]*data-notice="{notice}"[^>]*>', page)
    assert tag, notice
    return " hidden" not in tag[0]


def get(client: FlaskClient, path: str) -> str:
    """The text of a page."""
    response = client.get(path)
    assert (response.status_code, response.mimetype) == (200, "text/html")
    return response.get_data(as_text=True)


def test_search_page_counts_the_pictures(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, [f"{number}.jpg" for number in range(3)])
    report_worker(settings)
    page = get(client, "/")
    assert '<span data-field="images">3</span>' in page
    assert not shown(page, "empty")
    assert not shown(page, "worker-missing")
    assert not shown(page, "untrained")


def test_empty_collection_says_how_to_start(client: FlaskClient) -> None:
    page = get(client, "/")
    assert shown(page, "empty")
    assert page.count("<li><div><strong>") == 3
    assert "make up IMAGES=" in page


def test_search_page_says_why_searches_wait(client: FlaskClient, settings: Settings) -> None:
    page = get(client, "/")
    assert shown(page, "worker-missing")
    assert "imagesearch worker --queues query" in page
    report_worker(settings, state="loading")
    page = get(client, "/")
    assert not shown(page, "worker-missing")
    assert shown(page, "worker-waiting")
    report_worker(settings, state="waiting", detail="It waits for the weights.")
    assert "It waits for the weights." in get(client, "/")


@pytest.mark.parametrize("path", ["/", "/browse", "/folders", "/duplicates", "/api/docs"])
def test_untrained_weights_are_said_on_every_page(
    client: FlaskClient, settings: Settings, library: Path, path: str
) -> None:
    index_files(settings, library, ["a.jpg"], spec=SPEC.model_copy(update={"trained": False}))
    page = get(client, path)
    assert shown(page, "untrained")
    assert "IMAGESEARCH_WEIGHTS=" in page


@pytest.mark.parametrize("path", ["/", "/browse", "/folders", "/duplicates", "/api/docs"])
def test_pages_are_there_without_redis(make_client: MakeClient, path: str) -> None:
    page = get(make_client(redis_url="redis://localhost:1/0"), path)
    assert shown(page, "offline")
    assert "Redis is not reachable" in page


def test_folders_page_lists_jobs_and_workers(client: FlaskClient, settings: Settings, library: Path) -> None:
    (library / "2024").mkdir()
    job_id = client.post("/api/v1/index-jobs", json={"folder": "photos/2024"}).get_json()["id"]
    report_worker(settings)
    page = get(client, "/folders")
    assert f'data-job="{job_id}"' in page
    assert "photos/2024" in page
    assert 'data-worker="query@desk:4711"' in page


def test_names_from_outside_are_escaped(client: FlaskClient, library: Path) -> None:
    name = "<img src=x onerror=alert(1)>&\"'"
    (library / name).mkdir()
    assert client.post("/api/v1/index-jobs", json={"folder": f"photos/{name}"}).status_code == 202
    for path in ("/folders", "/duplicates"):
        page = get(client, path)
        assert "<img src=x" not in page
        assert "photos/&lt;img src=x onerror=alert(1)&gt;" in page


@pytest.mark.parametrize("path", ["/", "/browse", "/folders", "/duplicates", "/api/docs"])
def test_pages_have_no_inline_code_and_no_outside_resources(client: FlaskClient, path: str) -> None:
    page = get(client, path)
    assert not re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)
    assert not re.findall(r'<script(?![^>]*\s(?:src=|type="application/json"))', page)
    assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', page)
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        with client.get(address) as response:
            assert response.status_code == 200


def test_scripts_never_set_html() -> None:
    scripts = list(STATIC.rglob("*.js"))
    assert scripts
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), script.name
        for module in re.findall(r'(?:from|import) "(\.[^"]+)"', text):
            assert (script.parent / module).is_file(), f"{script.name}: {module}"


@pytest.mark.parametrize("path", ["/", "/browse", "/folders", "/duplicates"])
def test_page_names_all_modules_that_its_script_imports(client: FlaskClient, path: str) -> None:
    page = get(client, path)
    waiting = re.findall(r'<script type="module" src="([^"]+)"', page)
    assert len(waiting) == 1
    imported: set[str] = set()
    while waiting:
        script = waiting.pop()
        code = (STATIC / script.removeprefix("/static/")).read_text(encoding="utf-8")
        for module in re.findall(r'"(\.{1,2}/[^"]+\.js)"', code):
            address = urljoin(script, module)
            if address not in imported:
                imported.add(address)
                waiting.append(address)
    assert set(re.findall(r'<link rel="modulepreload" href="([^"]+)"', page)) == imported != set()


def test_every_text_that_is_named_is_there() -> None:
    for file in (*STATIC.rglob("*.js"), *STATIC.with_name("templates").rglob("*.html")):
        code = re.sub(r"//.*", "", file.read_text(encoding="utf-8"))
        for section, name in re.findall(r"\bt\(\s*[\"']([a-z_]+)\.([a-z_]+)[\"']\s*[,)]", code):
            assert name in all_texts()[section], f"{file.name}: {section}.{name}"
