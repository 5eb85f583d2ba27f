"""Takes pictures of every page in every state, for people to leaf through: `build/screenshots/index.html`.

python -m tests.browser.screenshots [--only TEXT] [--readme]
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from benchmarks.browsing import running_chromium
from tests.browser.devices import DESKTOP, DEVICES, SCHEMES, Device, open_context
from tests.browser.scenes import SCENES, Scene, settle
from tests.browser.stage import KINDS, Stage, open_stage

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "build" / "screenshots"
README_FOLDER = PROJECT / "docs" / "images"
# What README.md shows, each in light and dark.
README_SCENES = {
    "home": "search-home",
    "results": "search-results",
    "crop": "search-crop",
    "browse": "browse-root",
    "indexing": "indexing-jobs",
}
README_BYTES = 150_000
_QUALITIES = (90, 84, 78, 70, 60, 50)
# So many screens: more of a long page is not of interest.
_LONGEST = 2
# As many as the sample library has.
_EACH = 30


def file_name(scene: str, device: Device, scheme: str) -> str:
    """The name of one picture."""
    return f"{scene}-{device.width}-{scheme}.png"


def shoot(page: Page, scene: Scene, device: Device, folder: Path) -> None:
    """Writes the pictures of a page that is in the state of a scene, in each colour scheme."""
    if not scene.overlay:
        # A higher screen instead of Playwright's `full_page`, for which Chromium forgets that the screen is touched.
        height = int(page.evaluate("document.documentElement.scrollHeight"))
        page.set_viewport_size(
            {"width": device.width, "height": min(max(height, device.height), _LONGEST * device.height)}
        )
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        settle(page)
        page.screenshot(path=folder / file_name(scene.name, device, scheme))


def shoot_stage(browser: Browser, stage: Stage, scenes: Sequence[Scene], folder: Path) -> None:
    """Plays all scenes of a stage on all devices, and writes their pictures."""
    for device in DEVICES:
        with open_context(browser, device) as context:
            for scene in scenes:
                page = context.new_page()
                scene.play(page, stage)
                shoot(page, scene, device, folder)
                page.close()
        print(f"{len(scenes)} states of the {scenes[0].stage} stage at {device.width} pixels", file=sys.stderr)


def write_index(scenes: Sequence[Scene], folder: Path) -> None:
    """Writes the page to leaf through."""
    data = {
        "scenes": [{"name": scene.name, "page": scene.page, "title": scene.title} for scene in scenes],
        "widths": [device.width for device in DEVICES],
        "schemes": SCHEMES,
    }
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    text = json.dumps(data, indent=1).replace("<", "\\u003c")
    (folder / "index.html").write_text(template.replace("DATA", text, 1), encoding="utf-8")


def write_readme_pictures(source: Path, target: Path) -> None:
    """Makes the pictures of README.md: one screen each, small files."""
    target.mkdir(parents=True, exist_ok=True)
    for name, scene in README_SCENES.items():
        for scheme in SCHEMES:
            with Image.open(source / file_name(scene, DESKTOP, scheme)) as picture:
                screen = picture.convert("RGB").crop((0, 0, DESKTOP.width, DESKTOP.height))
            (target / f"{name}-{scheme}.webp").write_bytes(_small_webp(screen))


def _small_webp(picture: Image.Image) -> bytes:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() <= README_BYTES:
            break
    return buffer.getvalue()


def take_all(browser: Browser, scenes: Sequence[Scene], folder: Path, each: int = _EACH) -> None:
    """Takes the pictures of scenes, on a stage of each kind that they need, and writes the page to leaf through.

    Args:
        browser: The browser.
        scenes: What is shown.
        folder: Where to.
        each: How many pictures of each family the collection has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as temporary:
        for kind in KINDS:
            wanted = [scene for scene in scenes if scene.stage == kind]
            if wanted:
                place = Path(temporary) / kind
                place.mkdir()
                with open_stage(kind, place, each) as stage:
                    shoot_stage(browser, stage, wanted, folder)
    write_index(scenes, folder)


def main() -> None:
    """Takes the pictures that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only the states with this in their names")
    parser.add_argument("--readme", action="store_true", help="write the pictures of README.md, too")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    scenes = [scene for scene in SCENES.values() if arguments.only in scene.name]
    expect.set_options(timeout=15_000)
    with running_chromium() as browser:
        take_all(browser, scenes, arguments.folder)
    if arguments.readme:
        write_readme_pictures(arguments.folder, README_FOLDER)
    print(f"Open {arguments.folder / 'index.html'}", file=sys.stderr)


if __name__ == "__main__":
    main()
