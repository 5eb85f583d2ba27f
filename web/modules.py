"""The scripts of a page with all that they import, so that a browser fetches them together, not one after the other."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePosixPath

from apiflask import APIFlask

_STATIC = Path(__file__).with_name("static")
_IMPORT = re.compile(r'^import\b[^"]*"(\.[^"]+)"', re.MULTILINE)


@cache
def imported(script: str) -> list[str]:
    """The modules that a script imports, at any depth, in the order in which they are met.

    Args:
        script: Its path below the static files, as are those in the answer.
    """
    found: list[str] = []
    waiting = [script]
    while waiting:
        current = waiting.pop(0)
        for module in _IMPORT.findall((_STATIC / current).read_text(encoding="utf-8")):
            path = _normal(PurePosixPath(current).parent / module)
            if path not in found:
                found.append(path)
                waiting.append(path)
    return found


def register(app: APIFlask) -> None:
    """Makes `imported` known to the templates."""
    app.jinja_env.globals.update(imported=imported)


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
