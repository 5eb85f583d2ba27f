"""The English texts of the pages, all in `texts.json`: the templates and the scripts take them from there.

A text may hold `{names}` of values. One that depends on a number has the forms `one` and `other`. What stands in
backquotes is set as code, where a page shows it with `code_spans`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from apiflask import APIFlask

_FILE = Path(__file__).with_name("texts.json")

Texts = dict[str, Any]


@cache
def all_texts() -> Texts:
    """The whole file: sections, and in them texts, or the forms of a text."""
    texts: Texts = json.loads(_FILE.read_text(encoding="utf-8"))
    return texts


def text(key: str, **values: object) -> str:
    """A text.

    Args:
        key: `section.name`; with a value `count`, the form of that number is taken where the text has forms.
        **values: What stands for the `{names}`; integers are written with thousands separators.

    Raises:
        KeyError: There is no such text, or one of its values was not given.
    """
    found: Any = all_texts()
    for part in key.split("."):
        found = found[part]
    if isinstance(found, dict):
        found = found["one" if values["count"] == 1 else "other"]
    return str(found).format_map({name: _shown(value) for name, value in values.items()})


def texts_of(*sections: str) -> Texts:
    """What the scripts of a page need, for its data block."""
    return {name: all_texts()[name] for name in sections}


def register(app: APIFlask) -> None:
    """Makes `t` and `texts_of` known to the templates."""
    app.jinja_env.globals.update(t=text, texts_of=texts_of)


def _shown(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
