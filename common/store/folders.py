"""The folders of the indexed images, found in the order of the paths alone: no table of folders is kept.

Paths lie in byte order, so a folder is one stretch of them. The next folder is found by jumping behind the last one
(a skip scan), and what a folder holds is counted along its stretch.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from common.store.catalog import Catalog

# So many counts, and so many next folders, are remembered at most; a page has up to a thousand.
_REMEMBERED = 10_000
# Behind so many folders, jumping over each costs more than looking at all paths.
_JUMPS = 1000

# No path sorts after U+10FFFF.
_END = "\U0010ffff"

_STRETCH = "FROM images WHERE path >= ? AND path < ?"
_IN_FOLDER = "instr(substr(path, ?), '/') > 0"
_COUNT = f"SELECT count(*) {_STRETCH}"
_PATHS = f"SELECT path {_STRETCH} ORDER BY path"
_NEXT_FOLDER = f"SELECT path {_STRETCH} AND {_IN_FOLDER} ORDER BY path LIMIT 1"
_DIRECT_PATHS = f"SELECT path {_STRETCH} AND NOT {_IN_FOLDER} ORDER BY path LIMIT ?"

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that has indexed images at some depth.

    Attributes:
        path: `ROOT_NAME/relative/path`.
        images: How many indexed images are below it, at any depth.
        has_folders: Whether there are folders with images in it.
    """

    path: str
    images: int
    has_folders: bool

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


class Folders:
    """Finds and counts folders. May be used from any thread; what it found is remembered until the catalog changes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._generation = -1
        self._counts: dict[str, int] = {}
        self._nexts: dict[tuple[str | None, str], str | None] = {}

    def count(self, parent: str | None) -> int:
        """How many indexed images are below a folder, at any depth (None: in the whole store)."""
        if parent is None:
            return self._catalog.count()
        with self._catalog.reading() as db:
            return self._count(db, self._current(db), parent)

    def children(self, parent: str | None, after: str = "", limit: int = 100) -> tuple[list[Folder], bool]:
        """The folders directly below a folder (None: the roots), in the order of the images in them.

        That is the byte order of their paths with a slash behind each: `a.b` comes before `a`.

        Args:
            parent: A public path.
            after: Only folders behind this one.
            limit: How many at most.

        Returns:
            The folders, and whether more follow.
        """
        low, _ = _stretch(parent)
        found: list[Folder] = []
        with self._catalog.reading() as db:
            generation = self._current(db)
            position = max(low, _behind(after)) if after else low
            while (path := self._next(db, generation, parent, position)) is not None:
                if len(found) == limit:
                    return found, True
                has_folders = self._next(db, generation, path, _stretch(path)[0]) is not None
                found.append(Folder(path, self._count(db, generation, path), has_folders))
                position = _behind(path)
        return found, False

    def direct(self, parent: str, after: str = "", limit: int = 100) -> list[str]:
        """The paths of up to `limit` images directly in a folder, in byte order, behind `after`."""
        low, high = _stretch(parent)
        found: list[str] = []
        position = max(low, after)
        with self._catalog.reading() as db:
            for _ in range(_JUMPS):
                behind = _take_direct(db, (position, high), low, after, limit, found)
                if behind is None:
                    return found
                position = behind
            rest = db.execute(_DIRECT_PATHS, (position, high, len(low) + 1, limit - len(found)))
            return found + [path for (path,) in rest]

    def _count(self, db: sqlite3.Connection, generation: int, folder: str) -> int:
        def count() -> int:
            return int(db.execute(_COUNT, _stretch(folder)).fetchone()[0])

        return self._remembered(self._counts, folder, generation, count)

    def _next(self, db: sqlite3.Connection, generation: int, parent: str | None, position: str) -> str | None:
        """The first folder in `parent` from a position on."""
        low, high = _stretch(parent)

        def find() -> str | None:
            row = db.execute(_NEXT_FOLDER, (position, high, len(low) + 1)).fetchone()
            return None if row is None else str(row[0])[: str(row[0]).index("/", len(low))]

        return self._remembered(self._nexts, (parent, position), generation, find)

    def _remembered(self, known: dict[_Key, _Value], key: _Key, generation: int, find: Callable[[], _Value]) -> _Value:
        with self._lock:
            if self._generation == generation and key in known:
                return known[key]
        value = find()
        with self._lock:
            # Another thread may have seen a newer state meanwhile.
            if self._generation == generation and len(known) < _REMEMBERED:
                known[key] = value
        return value

    def _current(self, db: sqlite3.Connection) -> int:
        """The generation that `db` sees; what is remembered of older ones is dropped."""
        generation = int(db.execute("SELECT generation FROM state").fetchone()[0])
        with self._lock:
            full = max(len(self._counts), len(self._nexts)) >= _REMEMBERED
            if generation > self._generation or full:
                self._generation = max(generation, self._generation)
                self._counts.clear()
                self._nexts.clear()
        return generation


def _stretch(folder: str | None) -> tuple[str, str]:
    """From where to where the paths below a folder lie; the first is also what they all begin with."""
    return ("", _END) if folder is None else (f"{folder}/", _behind(folder))


def _behind(folder: str) -> str:
    # "0" is the character after "/".
    return f"{folder}0"


def _take_direct(
    db: sqlite3.Connection, bounds: tuple[str, str], prefix: str, after: str, limit: int, found: list[str]
) -> str | None:
    """Takes paths behind `after` up to the next folder. Gives the position behind that, or None at the end."""
    for (path,) in db.execute(_PATHS, bounds):
        slash = path.find("/", len(prefix))
        if slash >= 0:
            return _behind(path[:slash])
        if path != after:
            found.append(path)
        if len(found) == limit:
            break
    return None
