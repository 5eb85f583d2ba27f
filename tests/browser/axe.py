"""Asks axe-core what is wrong with a page for people who see, hear or move less well than others."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

# The package carries axe-core; the page's policy forbids script elements, but not what the browser's driver evaluates.
_SOURCE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
_OPTIONS = {"resultTypes": ["violations"], "preload": False}
_GRAVE = ("serious", "critical")


def load_axe(page: Page) -> None:
    """Makes axe-core known in a page, until another one is opened in its place."""
    page.evaluate(_SOURCE)


def grave_findings(page: Page, part: object = None) -> list[str]:
    """The serious and critical findings of a page as it stands, each with its first place.

    Args:
        page: A page with axe-core.
        part: What is looked at, as axe-core takes it; all of it by default.
    """
    result: dict[str, Any] = page.evaluate("([part, options]) => axe.run(part ?? document, options)", [part, _OPTIONS])
    return [_line(found) for found in result["violations"] if found["impact"] in _GRAVE]


def _line(found: dict[str, Any]) -> str:
    nodes = found["nodes"]
    return (
        f"{found['impact']} {found['id']}, {len(nodes)} times: {nodes[0]['html'][:300]} — {nodes[0]['failureSummary']}"
    )
