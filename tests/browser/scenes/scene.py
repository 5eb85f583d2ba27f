"""What a scene is, and how one is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Page

from tests.browser.pages import wait_for
from tests.browser.stage import Stage

Act = Callable[[Page, Stage], None]
Part = str | dict[str, list[list[str]]] | None

# Fonts, and each picture on the screen. Lazy ones further down may not even have been asked for.
_SETTLED = """() => document.fonts.status === "loaded" && [...document.images].every((image) => {
  const { top, bottom, width } = image.getBoundingClientRect();
  return image.complete || !width || !image.src || top > innerHeight || bottom < 0;
})"""
_NEXT_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@dataclass(frozen=True)
class Scene:
    """A page in a state.

    Attributes:
        name: The page and the state, such as `search-results`.
        title: The state in words.
        stage: The kind of installation it is set on, a key of `KINDS`.
        act: Brings a page into the state.
        provokes: Whether refused requests belong to it.
        overlay: Whether something lies over the page, so that only what is on the screen counts.
        part: What axe-core looks at, as it takes it (a selector, or what to include and to exclude), where a page is
            long and the rest of it is that of another scene, or the same again and again.
    """

    name: str
    title: str
    stage: str
    act: Act
    provokes: bool
    overlay: bool
    part: Part

    @property
    def page(self) -> str:
        """The page it shows."""
        return self.name.partition("-")[0]

    def play(self, page: Page, stage: Stage) -> None:
        """Brings a fresh page into the state, whatever was done to the stage before, and waits until it is drawn."""
        page.context.set_offline(False)
        stage.reset()
        self.act(page, stage)
        settle(page)


SCENES: dict[str, Scene] = {}


def scene(
    stage: str = "full", *, provokes: bool = False, overlay: bool = False, part: Part = None
) -> Callable[[Act], Act]:
    """Makes a function a scene: its name gives the page and the state, its first line the title."""

    def register(act: Act) -> Act:
        name = act.__name__.replace("_", "-")
        title = (act.__doc__ or name).strip().removesuffix(".")
        SCENES[name] = Scene(name, title, stage, act, provokes, overlay, part)
        return act

    return register


def settle(page: Page) -> None:
    """Waits until everything on the screen is drawn."""
    wait_for(page, _SETTLED)
    page.evaluate(_NEXT_FRAMES)


def visit(page: Page, stage: Stage, path: str) -> None:
    """Opens an address of the installation."""
    page.goto(f"{stage.address}{path}")
