"""What the pages cost, in a real Chromium: the first paint, the bytes, and the time from a dropped picture to a result.

A real server with a real query worker. The peer is the API itself: in each round a client of its own sends the same
picture, and the page is given it as if it were dropped there, in turns first. What counts is the ratio of the two
within a round; a result counts as visible when its picture has been drawn.

    python -m benchmarks.bench_pages [--images FOLDER] [--model FILE.keras]
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from benchmarks.browsing import Weight, first_paint_ms, running_chromium
from benchmarks.http_load import ProductClient, upload_body
from benchmarks.measuring import Noise, at_most, machine, percentile
from benchmarks.system import System, running_web, temporary_system, wait_until
from common.images import EXTENSIONS
from common.messages import SearchQuery
from common.up.sample import make_sample_library

FIRST_PAINT_MS = 500
PAGE_BYTES = 150_000
BESIDE_API_MS = 100
WARM_UPS = 3
# As many results as the page asks for.
RESULTS = 40
_SCREEN = {"width": 1440, "height": 900}
_MAKE_TRANSFER = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  return transfer;
}"""
# A frame is drawn after its callbacks; a message sent in one of them arrives behind it.
_DROP = """(dataTransfer) => new Promise((resolve, reject) => {
  const began = performance.now();
  setTimeout(() => reject(new Error("no result within 30 s")), 30_000);
  document.addEventListener("load", function seen({ target }) {
    if (!target.matches?.("#grid .tile img")) return;
    document.removeEventListener("load", seen, true);
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => resolve(performance.now() - began);
      port2.postMessage(null);
    });
  }, true);
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
})"""


@dataclass(frozen=True)
class Site:
    """A running installation with indexed pictures.

    Attributes:
        address: That of its server.
        pages: The name of each page to its path.
        pictures: The indexed files.
    """

    address: str
    pages: dict[str, str]
    pictures: list[Path]


@contextmanager
def running_site(images: Path, model: Path) -> Iterator[Site]:
    """Indexes a folder, looks for duplicates in it, and starts a query worker and the web tier."""
    pictures = sorted(path for path in images.rglob("*") if path.suffix.lower() in EXTENSIONS)
    with temporary_system(images, str(model), "untrained") as system:
        _prepare(system)
        system.start_worker("query")
        query = SearchQuery(k=RESULTS)
        search_id = system.client.submit_search(query, [pictures[0].read_bytes()]).id
        system.client.search(search_id, wait_seconds=30)
        pages = {"Search": "/", "results": f"/search/{search_id}", "Browse": "/browse", "Indexing": "/folders"}
        pages |= {"Duplicates": "/duplicates", "API": "/api/docs"}
        with running_web(system.settings) as address:
            yield Site(address, pages, pictures)


def _prepare(system: System) -> None:
    worker = system.start_worker("bulk")
    print(f"{system.index('images').done} pictures are indexed", file=sys.stderr)
    worker.stop()
    worker = system.start_worker("maintenance")
    job = system.client.submit_duplicate_job(0.97)
    wait_until(lambda: system.client.duplicates(job.id, None, 1).state == "done", "duplicates are found")
    worker.stop()


# --- pages ---------------------------------------------------------------------------------------------------


def measure_page(browser: Browser, address: str, rounds: int) -> dict[str, Any]:
    """A page with an empty browser cache and, in the same browser, once more."""
    cold, warm, first_bytes = [], [], []
    weight: dict[str, int] = {}
    for _ in range(rounds):
        context = browser.new_context(viewport=_SCREEN)
        page = context.new_page()
        counted = Weight(page)
        cold.append(_open(page, address))
        first_bytes.append(float(page.evaluate("performance.getEntriesByType('navigation')[0].responseStart")))
        page.wait_for_timeout(300)  # until scripts have asked for what they need
        weight = counted.bytes()
        warm.append(_open(context.new_page(), address))
        context.close()
    return {
        "first_paint_cold_ms": _spread(cold),
        "first_paint_warm_ms": _spread(warm),
        "first_byte_cold_ms": _spread(first_bytes),
        "bytes": sum(weight.values()),
        "bytes_of_each_kind": weight,
    }


def _open(page: Page, address: str) -> float:
    page.goto(address, wait_until="load")
    return first_paint_ms(page)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(values), 1), "highest": round(max(values), 1)}


# --- from a picture to a result ------------------------------------------------------------------------------


def measure_drops(browser: Browser, site: Site, rounds: int) -> dict[str, Any]:
    """The same picture by the API and on the page, round after round, in turns first."""
    client = ProductClient(site.address)
    by_api: list[float] = []
    on_page: list[float] = []
    jpegs = [path for path in site.pictures if path.suffix.lower() in {".jpg", ".jpeg"}]
    for number in range(-WARM_UPS, rounds):
        picture = jpegs[(number * 37) % len(jpegs)]
        body = upload_body(picture, "image", k=RESULTS)
        if number % 2:
            api = client.search(body).seconds * 1000
            page = _dropped_ms(browser, site.address, picture)
        else:
            page = _dropped_ms(browser, site.address, picture)
            api = client.search(body).seconds * 1000
        if number >= 0:
            by_api.append(api)
            on_page.append(page)
    ratios = [page / api for page, api in zip(on_page, by_api, strict=True)]
    beside = [page - api for page, api in zip(on_page, by_api, strict=True)]
    return {
        "visible_of_api": round(statistics.median(ratios), 2),
        "visible_minus_api_ms": at_most(statistics.median(beside), BESIDE_API_MS)
        | {"p95": round(percentile(beside, 95), 1)},
        "visible_ms": {f"p{percent}": round(percentile(on_page, percent), 1) for percent in (50, 95)},
        "api_ms": {f"p{percent}": round(percentile(by_api, percent), 1) for percent in (50, 95)},
        "rounds": rounds,
    }


def _dropped_ms(browser: Browser, address: str, picture: Path) -> float:
    """From the drop on the first page to the first result that is drawn; no thumbnail is in the browser's cache."""
    context = browser.new_context(viewport=_SCREEN)
    page = context.new_page()
    page.goto(address, wait_until="load")
    page.wait_for_timeout(500)  # a person has not found the picture sooner, either
    data = base64.b64encode(picture.read_bytes()).decode()
    transfer = page.evaluate_handle(_MAKE_TRANSFER, [picture.name, data])
    seconds = float(page.evaluate(_DROP, transfer))
    context.close()
    return seconds


# --- all -----------------------------------------------------------------------------------------------------


def measure(site: Site, rounds: int, searches: int) -> dict[str, Any]:
    """All figures, ratios and targets first."""
    with running_chromium() as browser:
        drops = measure_drops(browser, site, searches)
        pages = {name: measure_page(browser, site.address + path, rounds) for name, path in site.pages.items()}
        version = browser.version
    slowest = max(page["first_paint_cold_ms"]["p50"] for page in pages.values())
    return {
        "dropped_picture": drops,
        "slowest_first_paint_ms": at_most(slowest, FIRST_PAINT_MS),
        "heaviest_page_bytes": at_most(max(page["bytes"] for page in pages.values()), PAGE_BYTES),
        "pages": pages,
        "chromium": version,
    }


def main() -> None:
    """Measures, and prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of pictures; the sample library by default")
    parser.add_argument("--model", type=Path, help="a .keras file; a small network by default")
    parser.add_argument("--rounds", type=int, default=9, help="how often each page is opened")
    parser.add_argument("--searches", type=int, default=40, help="how many pictures are dropped")
    options = parser.parse_args()
    noise = Noise()
    with tempfile.TemporaryDirectory(prefix="imagesearch-pages-") as scratch:
        images = options.images or make_sample_library(Path(scratch) / "samples", lambda _: None)
        with running_site(images, options.model or _small_model(Path(scratch))) as site:
            figures = measure(site, options.rounds, options.searches)
    print(json.dumps({**figures, "noise": noise.report(), "machine": machine(("playwright",))}, indent=1))


def _small_model(folder: Path) -> Path:
    from tests.models import save_fast_model  # TensorFlow: not for --help

    return save_fast_model(folder)


if __name__ == "__main__":
    main()
