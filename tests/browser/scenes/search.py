"""The search page."""

from __future__ import annotations

import re

from playwright.sync_api import FilePayload, Locator, Page, expect

from common.celery_app import BULK, QUERY, QUEUES
from common.messages import QueryImage, SystemProblem
from common.store import image_id
from tests.browser.pages import SearchPage
from tests.browser.scenes.scene import scene, visit
from tests.browser.stage import ROOT, Stage

HILLS = "Places/Hills/hills-02.jpg"
# There are copies of it in another folder.
CITY = "Places/Cities/cities-01.jpg"
RINGS = "Patterns/Rings/rings-02.jpg"
GONE = "0123456789abcdef01234567"


def picture(stage: Stage, name: str) -> bytes:
    """The bytes of a picture of the library."""
    return (stage.library / name).read_bytes()


def show_results(page: Page, stage: Stage, name: str = HILLS, **query: object) -> Locator:
    """Opens the results of a search for a picture. Gives their tiles."""
    visit(page, stage, f"/search/{stage.searched(picture(stage, name), **query)}")
    tiles = SearchPage(page, stage.address).tiles
    expect(tiles.nth(11)).to_be_visible()
    return tiles


def show_message(page: Page, stage: Stage, file: FilePayload, text: str | re.Pattern[str]) -> None:
    """Chooses a file on the first page, and waits for what the page says of it."""
    visit(page, stage, "/")
    page.locator("#file").set_input_files(file)
    expect(page.locator("#message")).to_contain_text(text)


# --- before a search -----------------------------------------------------------------------------------------


@scene()
def search_home(page: Page, stage: Stage) -> None:
    """Before the first picture."""
    visit(page, stage, "/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator('[data-field="images"]')).to_have_text(str(len(stage.pictures)))


@scene("empty")
def search_empty(page: Page, stage: Stage) -> None:
    """No pictures yet: three steps."""
    visit(page, stage, "/")
    expect(page.locator(".steps li")).to_have_count(3)


@scene("guarded")
def search_untrained(page: Page, stage: Stage) -> None:
    """Untrained weights, and a field for addresses."""
    visit(page, stage, "/")
    expect(page.locator('[data-notice="untrained"]')).to_be_visible()
    expect(page.locator("#address")).to_be_visible()


@scene("broken", provokes=True)
def search_broken(page: Page, stage: Stage) -> None:
    """Redis is away."""
    visit(page, stage, "/")
    expect(page.locator('[data-notice="offline"]')).to_be_visible()


@scene(overlay=True)
def search_drop(page: Page, stage: Stage) -> None:
    """A picture is dragged over the page."""
    visit(page, stage, "/")
    page.dispatch_event("body", "dragenter", {"dataTransfer": page.evaluate_handle("new DataTransfer()")})
    expect(page.locator(".drop-overlay")).to_be_visible()


# --- results -------------------------------------------------------------------------------------------------


@scene()
def search_results(page: Page, stage: Stage) -> None:
    """Results."""
    show_results(page, stage)


@scene()
def search_hover(page: Page, stage: Stage) -> None:
    """The mouse on a result."""
    show_results(page, stage).nth(1).hover()


@scene()
def search_crop(page: Page, stage: Stage) -> None:
    """A region is searched for."""
    show_results(page, stage, crop=(0.1, 0.35, 0.62, 0.9))
    expect(page.locator("#crop-reset")).to_be_visible()


@scene(overlay=True)
def search_cropping(page: Page, stage: Stage) -> None:
    """A region is being chosen on the large picture."""
    show_results(page, stage, crop=(0.1, 0.35, 0.62, 0.9))
    page.locator("#crop-toggle").click()
    expect(page.locator("#crop-toggle")).to_have_attribute("aria-pressed", "true")


@scene()
def search_several(page: Page, stage: Stage) -> None:
    """Several pictures, one of them unwanted."""
    several(page, stage)


@scene(overlay=True)
def search_toast(page: Page, stage: Stage) -> None:
    """The last wanted picture cannot be made unwanted."""
    several(page, stage)
    for chip in range(2):
        page.locator(".query-chip .chip-sign").nth(chip).click()
        if chip == 0:
            expect(page.locator(".query-chip.unwanted")).to_have_count(2)
            expect(SearchPage(page, stage.address).tiles.nth(11)).to_be_visible()
    expect(page.locator(".toast.shown")).to_be_visible()


def several(page: Page, stage: Stage) -> None:
    """Opens the results of a search for an upload and an indexed picture, less another one."""
    stored = (
        QueryImage(image_id=image_id(f"{ROOT}/{CITY}")),
        QueryImage(image_id=image_id(f"{ROOT}/{RINGS}"), weight=-0.5),
    )
    show_results(page, stage, images=(QueryImage(), *stored))
    expect(page.locator(".query-chip")).to_have_count(3)


@scene(overlay=True)
def search_folders(page: Page, stage: Stage) -> None:
    """The choice of a folder, opened."""
    show_results(page, stage)
    page.locator(".folder-button").click()
    page.locator(".folder-panel").get_by_role("button", name="Folders in Patterns").click()
    expect(page.locator(".folder-panel").get_by_text("Stripes")).to_be_visible()


@scene()
def search_cutoff(page: Page, stage: Stage) -> None:
    """Results below a score are hidden."""
    tiles = show_results(page, stage)
    before = tiles.count()
    page.locator("#cutoff").fill("0.8")
    expect(tiles).not_to_have_count(before)


@scene(overlay=True)
def search_viewer(page: Page, stage: Stage) -> None:
    """A result at full size, with its copies."""
    show_results(page, stage, CITY).first.click()
    image = page.locator("dialog.viewer .viewer-image")
    expect(image).to_have_attribute("src", re.compile("/original$"))
    page.locator("dialog.viewer .viewer-copies summary").click()


@scene()
def search_nothing(page: Page, stage: Stage) -> None:
    """Nothing is similar enough."""
    crop = (0.3, 0.3, 0.7, 0.7)
    visit(page, stage, f"/search/{stage.searched(picture(stage, HILLS), crop=crop, min_score=0.9999)}")
    expect(page.locator("#message")).to_be_visible()


# --- when something is not as it should be -------------------------------------------------------------------


@scene()
def search_waiting(page: Page, stage: Stage) -> None:
    """No worker answers searches."""
    stage.dismiss(*QUEUES)
    visit(page, stage, f"/search/{stage.submitted(picture(stage, HILLS))}")
    expect(page.locator('[data-notice="worker-missing"]')).to_be_visible()
    expect(page.locator("#results-note")).to_contain_text("imagesearch worker")


@scene()
def search_problems(page: Page, stage: Stage) -> None:
    """Something is wrong that hinders no search."""
    full = (
        "The disk of the data folder /data on desk is full (less than 32 MB free): nothing new is indexed until there "
    )
    full += "is room. What is indexed can be searched. It goes on by itself."
    damaged = "Segment 2026-11-25-7.h5 is damaged, and the pictures in it are missing from the results: `imagesearch "
    damaged += "verify` says what is wrong. Move the file away and index again; only its pictures are embedded anew."
    told = {"disk-full": full, "segments-damaged": damaged}
    problems = [SystemProblem(kind=kind, detail=detail) for kind, detail in told.items()]
    stage.report(BULK, "idle", problems=problems)
    visit(page, stage, "/")
    expect(page.locator('[data-notice="problems"] li')).to_have_count(2)


@scene()
def search_queue(page: Page, stage: Stage) -> None:
    """Many other searches wait."""
    stage.dismiss()
    for _ in range(24):
        search_id = stage.submitted(picture(stage, HILLS))
    visit(page, stage, f"/search/{search_id}")
    expect(page.locator("#results-note")).to_contain_text("23")


@scene()
def search_loading(page: Page, stage: Stage) -> None:
    """The worker still loads its model."""
    stage.dismiss(QUERY)
    stage.report(QUERY, "loading", detail="Converting the model to int8: about a minute, once.")
    visit(page, stage, f"/search/{stage.submitted(picture(stage, HILLS))}")
    expect(page.locator('[data-notice="worker-waiting"]')).to_contain_text("Converting")


@scene()
def search_failed(page: Page, stage: Stage) -> None:
    """A search that failed."""
    # The head is right, the rest is missing: only decoding it shows.
    damaged = picture(stage, HILLS)
    visit(page, stage, f"/search/{stage.searched(damaged[: len(damaged) // 2])}")
    expect(page.locator("#message").get_by_role("button")).to_be_visible()


@scene(provokes=True)
def search_expired(page: Page, stage: Stage) -> None:
    """An address whose results are not kept any more."""
    visit(page, stage, f"/search/{GONE}")
    expect(page.locator("#message")).to_contain_text("expired")


@scene(provokes=True)
def search_not_an_image(page: Page, stage: Stage) -> None:
    """A file that is no image."""
    show_message(
        page, stage, {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"no image"}, re.compile("image", re.I)
    )


@scene()
def search_too_large(page: Page, stage: Stage) -> None:
    """A file that is too large."""
    show_message(page, stage, {"name": "large.jpg", "mimeType": "image/jpeg", "buffer": bytes(3 << 20)}, "3.0 MiB")


@scene(provokes=True)
def search_offline(page: Page, stage: Stage) -> None:
    """The server does not answer."""
    visit(page, stage, "/")
    expect(page.locator('[data-field="images"]')).to_be_visible()
    page.context.set_offline(True)
    page.locator("#file").set_input_files(stage.library / HILLS)
    expect(page.locator("#message")).to_contain_text("reached")
