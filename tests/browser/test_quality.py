"""Every page in every state: nothing that keeps people out, nothing beyond the edge of the screen, no errors behind it.

The scenes are those of `make screenshots`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from benchmarks.browsing import Weight
from tests.browser.axe import grave_findings, load_axe
from tests.browser.devices import DESKTOP, PHONE, Device, Scheme, open_context
from tests.browser.pages import Watch, overflows, wait_for
from tests.browser.scenes import SCENES, Scene, settle
from tests.browser.screenshots import PROJECT, README_BYTES, README_FOLDER, README_SCENES, take_all
from tests.browser.stage import Stage

# Without pictures; a photo from a phone has twenty times as much.
MOST_BYTES = 150_000
# What looks different to a finger.
TOUCHED = ["search-home", "search-results", "search-cropping", "search-viewer"]
PAGES = ["search-home", "search-results", "browse-root", "indexing-jobs", "duplicates-groups", "api-guide"]

OpenStage = Callable[[str], Stage]


@pytest.fixture(scope="module")
def wide(browser: Browser) -> Iterator[Page]:
    """A page on a wide screen, for all scenes: a window of its own for each would take longer than the rest."""
    with open_context(browser, DESKTOP) as context:
        yield context.new_page()


@pytest.fixture(scope="module")
def phone(browser: Browser) -> Iterator[Page]:
    """A page on a phone."""
    with open_context(browser, PHONE) as context:
        yield context.new_page()


def check(page: Page, scene: Scene, device: Device, scheme: Scheme) -> None:
    """Looks at a page in the state of a scene."""
    page.set_viewport_size({"width": device.width, "height": device.height})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    settle(page)
    assert grave_findings(page, scene.part) == []
    assert not overflows(page)


@contextmanager
def played(scene: Scene, page: Page, stage: Stage) -> Iterator[None]:
    """The state of a scene, from which nothing is left afterwards; nothing may go wrong behind the page."""
    watch = Watch(page, stage.address)
    try:
        scene.play(page, stage)
        load_axe(page)
        yield
    finally:
        watch.end()
        page.goto("about:blank")
    if scene.provokes:
        watch.forget_failed_answers()
    assert watch.problems == []


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_state(scene: Scene, wide: Page, stage: OpenStage) -> None:
    wide.set_viewport_size({"width": DESKTOP.width, "height": DESKTOP.height})
    with played(scene, wide, stage(scene.stage)):
        check(wide, scene, DESKTOP, "light")
        check(wide, scene, PHONE, "dark")


@pytest.mark.parametrize("scene", [SCENES[name] for name in TOUCHED], ids=TOUCHED)
def test_state_on_a_screen_that_is_touched(scene: Scene, phone: Page, stage: OpenStage) -> None:
    with played(scene, phone, stage(scene.stage)):
        check(phone, scene, PHONE, "dark")


@pytest.mark.parametrize("name", PAGES)
def test_page_is_light(name: str, browser: Browser, stage: OpenStage) -> None:
    with open_context(browser, DESKTOP) as context:
        page = context.new_page()
        weight = Weight(page)
        SCENES[name].play(page, stage(SCENES[name].stage))
        found = weight.bytes()
    assert found["document"] > 1000, "it was counted"
    assert sum(found.values()) < MOST_BYTES, found


def test_screenshots_are_taken_and_can_be_leafed_through(browser: Browser, tmp_path: Path) -> None:
    scene = SCENES["search-empty"]
    take_all(browser, [scene], tmp_path, each=2)
    names = [f"{scene.name}-{width}-{scheme}.png" for width in (390, 820, 1440) for scheme in ("light", "dark")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "index.html"])
    for name in names:
        with Image.open(tmp_path / name) as picture:
            assert picture.width == int(name.split("-")[-2])
    with open_context(browser, DESKTOP) as context:
        page = context.new_page()
        page.goto((tmp_path / "index.html").as_uri())
        shown = page.locator("#pictures img")
        expect(shown).to_have_attribute("src", f"{scene.name}-1440-light.png")
        page.keyboard.press("d")
        page.keyboard.press("ArrowRight")  # behind the widest one comes the narrowest
        # The address changes first, and the picture after it.
        wait_for(page, "location.hash.endsWith('/390/dark')")
        expect(shown).to_have_attribute("src", f"{scene.name}-390-dark.png")
        page.locator("#widths").get_by_label("all").check()
        expect(shown).to_have_count(3)


def test_pictures_of_the_readme_are_there_and_small() -> None:
    names = [f"{name}-{scheme}.webp" for name in README_SCENES for scheme in ("light", "dark")]
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in README_FOLDER.iterdir()) == sorted(names)
    for name in names:
        assert f"docs/images/{name}" in text
        assert (README_FOLDER / name).stat().st_size <= README_BYTES
    assert set(README_SCENES.values()) <= set(SCENES)
