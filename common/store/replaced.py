"""Segments that a compaction has replaced stay for a while, so that a plain copy of the folder is a backup.

A program that copies a folder lists it first. Of what appears later it knows nothing, and what is deleted later it does
not find any more. If a merged segment appeared and its sources went in between, their rows would be missing from the
copy. So the sources stay, each with an empty file beside it, `SOURCE.replaced-by.MERGED`. They count as long as the
merged segment is not there, which in such a copy it is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from common.store.segment import SUFFIX

if TYPE_CHECKING:
    from common.store.feature_store import FeatureStore

# A copy that takes longer may miss a file, and says so.
KEEP_REPLACED_SECONDS = 3600.0
_MARK = ".replaced-by."
# Instead of a merged segment: none of the rows counted any more.
_NOTHING = "nothing"


def mark_replaced(folder: Path, names: Iterable[str], merged: str | None) -> None:
    """Notes that segments are replaced by a merged one that is published; None: they held nothing that counts."""
    for name in names:
        (folder / f"{name}{_MARK}{merged or _NOTHING}").touch()


def replacement(file_name: str) -> tuple[str, str] | None:
    """The segment and its replacement, if a file is such a note."""
    name, mark, merged = file_name.partition(_MARK)
    return (name, merged) if mark else None


def replaced_names(folder: Path) -> set[str]:
    """The segments that have such a note."""
    return {name for name, _, _ in _notes(folder)}


def remove_replaced(store: FeatureStore, keep_seconds: float = KEEP_REPLACED_SECONDS) -> int:
    """Deletes the segments that were replaced longer ago. Returns how many.

    Where a segment counts, because in a copy its replacement is missing, the note goes and the segment stays.
    """
    folder, removed = store.segments_path, 0
    present = {path.stem for path in folder.glob(f"*{SUFFIX}")}
    # The oldest first: a merged segment may have been replaced itself, and should not go before its sources.
    old = sorted((_time(note), name, merged, note) for name, merged, note in _notes(folder))
    old = [item for item in old if time.time() - item[0] >= keep_seconds]
    if old:
        store.refresh()
        ids = {row.name: row.id for row in store.catalog.segments()}
    for _, name, merged, note in old:
        is_dead = name in ids and store.catalog.live_count(ids[name]) == 0
        if merged in present or is_dead:
            (folder / f"{name}{SUFFIX}").unlink(missing_ok=True)
            removed += 1
        note.unlink(missing_ok=True)
    return removed


def _notes(folder: Path) -> list[tuple[str, str, Path]]:
    return [(*found, path) for path in folder.iterdir() if (found := replacement(path.name))]


def _time(note: Path) -> float:
    with suppress(FileNotFoundError):  # another process removes it, too
        return note.stat().st_mtime
    return 0.0
