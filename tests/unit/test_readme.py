"""What README.md says of the settings is what `Settings` has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from common.settings import PREFIX, LibraryRoot, Settings, format_roots
from tests.unit.helpers import REPOSITORY

ROW = re.compile(r"^\|\s*`(?P<name>[A-Z_]+)`\s*\|\s*(?P<default>.*?)\s*\|\s*(?P<meaning>.+?)\s*\|$")


def settings_table() -> dict[str, tuple[str, str]]:
    """The rows of the table under `## Settings`: the variable's name to its default and its meaning."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Settings$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, "README.md has no section '## Settings'"
    rows = [match for line in section[1].splitlines() if (match := ROW.match(line.strip()))]
    return {row["name"]: (row["default"].strip("`"), row["meaning"]) for row in rows}


def as_text(default: Any) -> str:
    """How the table writes a default; nothing and an empty list are an empty cell."""
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple) and all(isinstance(part, LibraryRoot) for part in default):
        return format_roots(default)
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, float) and default.is_integer():
        return str(int(default))
    return f"./{default}" if isinstance(default, Path) and not default.is_absolute() else str(default)


def test_the_table_of_settings_lists_exactly_the_fields() -> None:
    assert list(settings_table()) == [PREFIX + field.upper() for field in Settings.model_fields]


def test_the_table_of_settings_gives_the_defaults() -> None:
    listed = {name: default.replace(",", "").replace("_", "") for name, (default, _) in settings_table().items()}
    expected = {
        PREFIX + name.upper(): as_text(field.default).replace("_", "") for name, field in Settings.model_fields.items()
    }
    assert listed == expected
