"""The catalog: which record of which segment stands for each path. Derived from the segments, never the truth.

It is a local SQLite file of each host, so that a million paths cost neither memory nor start-up time. Any number
of processes of the host share it; one at a time brings it up to date, the others read on meanwhile (WAL).
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.store.catalog_rows import CatalogEntry, ContentRow, Place, SegmentRow, image_id
from common.store.segment import ImageRecord, Segment

logger = logging.getLogger(__name__)

# Part of the file's name: a catalog of an older layout is simply made anew.
LAYOUT = 1

# AUTOINCREMENT: an id that a reader holds never comes to mean another segment.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    row_count INTEGER NOT NULL, precision TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS images (
    path TEXT PRIMARY KEY, root_length INTEGER NOT NULL, image_id BLOB NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, content_hash BLOB NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    sequence INTEGER NOT NULL, segment INTEGER NOT NULL, row INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS images_by_id ON images (image_id);
CREATE INDEX IF NOT EXISTS images_by_row ON images (segment, row);
CREATE TABLE IF NOT EXISTS contents (
    content_hash BLOB PRIMARY KEY, segment INTEGER NOT NULL, row INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tombstones (
    path TEXT PRIMARY KEY, sequence INTEGER NOT NULL, segment INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (generation INTEGER NOT NULL, images INTEGER NOT NULL);
INSERT INTO state SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM state);
"""
# A record is taken if it is not older than what is known of its path. On equal sequence the record read last
# wins: after a compaction that is the copy in the merged segment.
_TAKE_RECORD = """
INSERT INTO images
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE path = ? AND sequence > ?)
ON CONFLICT (path) DO UPDATE SET
    size = excluded.size, mtime_ns = excluded.mtime_ns, content_hash = excluded.content_hash,
    width = excluded.width, height = excluded.height, sequence = excluded.sequence,
    segment = excluded.segment, row = excluded.row
WHERE excluded.sequence >= images.sequence
"""
_TAKE_TOMBSTONE = """
INSERT INTO tombstones VALUES (?, ?, ?)
ON CONFLICT (path) DO UPDATE SET sequence = excluded.sequence, segment = excluded.segment
WHERE excluded.sequence >= tombstones.sequence
"""
# SQLite takes 999 values in a statement where it was built with its older limit.
_PLACES_AT_ONCE = 400
_COLUMNS = "path, root_length, image_id, size, mtime_ns, content_hash, width, height, sequence, segment, row"


def open_catalog(path: Path) -> Catalog:
    """The catalog in a file. One that is damaged is made anew: what was in it follows from the segments."""
    try:
        return Catalog(path)
    except sqlite3.OperationalError:
        raise  # its disk is full, or somebody else holds it: nothing is wrong with the file
    except sqlite3.DatabaseError as error:
        logger.warning("%s is damaged (%s): it is made anew from the segments", path, error)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return Catalog(path)


class Catalog:
    """The catalog file of one store on this host. May be used from any thread; each has its own connection."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._local = threading.local()
        with self.writing() as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)

    @property
    def _db(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -16384")
            self._local.connection = connection
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One atomic change, by one process at a time; dropped whole if the block raises."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            # On a full disk SQLite may have ended it already; or the commit failed, and left it open.
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several queries on the same state, whatever is written meanwhile; not inside `writing`."""
        db = self._db
        db.execute("BEGIN")
        try:
            yield db
        finally:
            db.execute("COMMIT")

    # --- bringing it up to date (inside `writing`) ---------------------------------------------------------

    def add_segment(self, db: sqlite3.Connection, segment: Segment, size: int, mtime_ns: int) -> None:
        """Takes in the records and tombstones of a segment.

        Raises:
            SegmentDamaged: It cannot be read; nothing was taken in.
        """
        tombstones, records = segment.tombstones(), segment.records()
        cursor = db.execute(
            "INSERT INTO segments (name, size, mtime_ns, row_count, precision) VALUES (?, ?, ?, ?, ?)",
            (segment.name, size, mtime_ns, segment.count, segment.precision),
        )
        segment_id = cursor.lastrowid
        db.executemany(_TAKE_TOMBSTONE, ((t.public_path, t.sequence, segment_id) for t in tombstones))
        db.executemany(
            "DELETE FROM images WHERE path = ? AND sequence < ?", ((t.public_path, t.sequence) for t in tombstones)
        )
        db.executemany(_TAKE_RECORD, (_values(record, segment_id, row) for row, record in enumerate(records)))
        # Dead rows, too: a file that was moved or comes back needs no network.
        db.executemany(
            "INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)",
            ((r.content_hash, segment_id, row, r.width, r.height) for row, r in enumerate(records)),
        )

    def drop_segment(self, db: sqlite3.Connection, segment_id: int) -> bool:
        """Forgets a segment that is gone. Returns whether live images or tombstones that count were lost with it.

        Then older records of the same paths count again, which only a new reading of all segments can find.
        """
        tables = ("images", "tombstones")
        lost = sum(db.execute(f"DELETE FROM {table} WHERE segment = ?", (segment_id,)).rowcount for table in tables)
        db.execute("DELETE FROM contents WHERE segment = ?", (segment_id,))
        db.execute("DELETE FROM segments WHERE id = ?", (segment_id,))
        return lost > 0

    def clear(self, db: sqlite3.Connection) -> None:
        """Forgets everything."""
        for table in ("segments", "images", "contents", "tombstones"):
            db.execute(f"DELETE FROM {table}")

    def bump(self, db: sqlite3.Connection) -> None:
        """Marks a new generation."""
        db.execute("UPDATE state SET generation = generation + 1, images = (SELECT count(*) FROM images)")

    # --- reading -------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Grows with every change."""
        return int(self._db.execute("SELECT generation FROM state").fetchone()[0])

    def count(self) -> int:
        """How many images are live."""
        return int(self._db.execute("SELECT images FROM state").fetchone()[0])

    def segments(self) -> list[SegmentRow]:
        """The segments that were taken in."""
        query = "SELECT id, name, size, mtime_ns, row_count, precision FROM segments ORDER BY id"
        return [SegmentRow(*row) for row in self._db.execute(query)]

    def by_id(self, image_id: str) -> CatalogEntry | None:
        """The image of an id."""
        try:
            raw = bytes.fromhex(image_id)
        except ValueError:
            return None
        return self._one("image_id = ?", (raw,))

    def by_path(self, path: str) -> CatalogEntry | None:
        """The image of a public path."""
        return self._one("path = ?", (path,))

    def content(self, content_hash: bytes) -> ContentRow | None:
        """A row with this content (SHA-256), whether its image is live or not."""
        query = (
            "SELECT name, row, width, height FROM contents JOIN segments ON segments.id = segment "
            "WHERE content_hash = ?"
        )
        row = self._db.execute(query, (content_hash,)).fetchone()
        return ContentRow(*row) if row else None

    def by_rows(self, places: Iterable[Place]) -> dict[Place, CatalogEntry]:
        """The live images in rows of segments; rows that are not live are left out."""
        found = {}
        ordered = sorted(places)  # neighbours lie together in the file
        for start in range(0, len(ordered), _PLACES_AT_ONCE):
            some = ordered[start : start + _PLACES_AT_ONCE]
            # CROSS: from the wanted rows to the index, never through all images.
            query = (
                f"WITH wanted (wanted_segment, wanted_row) AS (VALUES {', '.join(['(?, ?)'] * len(some))}) "
                f"SELECT {_COLUMNS} FROM wanted CROSS JOIN images ON segment = wanted_segment AND row = wanted_row"
            )
            for row in self._db.execute(query, [value for place in some for value in place]):
                entry = _entry(row)
                found[entry.segment_id, entry.row] = entry
        return found

    def rows(self, segment_id: int, folder: str | None = None) -> list[int]:
        """The live rows of a segment, in ascending order; with a folder, those at any depth below it."""
        query, values = "SELECT row FROM images WHERE segment = ?", (segment_id,)
        if folder is None:
            return [row for (row,) in self._db.execute(f"{query} ORDER BY row", values)]
        # The unary plus keeps SQLite from walking through the whole folder instead of the segment.
        query = f"{query} AND +path >= ? AND +path < ? ORDER BY row"
        return [row for (row,) in self._db.execute(query, (*values, *_below(folder)))]

    def rows_below(self, folder: str) -> dict[int, list[int]]:
        """The live rows at any depth below a folder: segment id to ascending rows."""
        found: dict[int, list[int]] = {}
        query = "SELECT segment, row FROM images WHERE path >= ? AND path < ?"
        for segment_id, row in self._db.execute(query, _below(folder)):
            found.setdefault(segment_id, []).append(row)
        return {segment_id: sorted(rows) for segment_id, rows in found.items()}

    def live_count(self, segment_id: int) -> int:
        """How many rows of a segment are live."""
        query = "SELECT count(*) FROM images WHERE segment = ?"
        return int(self._db.execute(query, (segment_id,)).fetchone()[0])

    def below(self, folder: str | None, after: str = "", limit: int = -1) -> Iterator[CatalogEntry]:
        """Live images at any depth below a folder (None: all), in the byte order of their paths."""
        # No path sorts after U+10FFFF.
        low, high = _below(folder) if folder else ("", "\U0010ffff")
        # One lower bound only: of two SQLite seeks the first, and reads from there on to the second.
        bound, start = (">", after) if after >= low else (">=", low)
        query = f"SELECT {_COLUMNS} FROM images WHERE path {bound} ? AND path < ? ORDER BY path LIMIT ?"
        cursor = self._db.cursor()
        for row in cursor.execute(query, (start, high, limit)):
            yield _entry(row)

    def sample(self, limit: int, start: bytes | None = None) -> list[CatalogEntry]:
        """Some live images, all if there are no more: those whose ids follow a given one, or a random one.

        An id is a hash of its path, so these are a random sample (a bottom-k sketch, Cohen and Kaplan 2007). With a
        given start it is the same on every host, and most of it stays while the collection grows.
        """
        start = secrets.token_bytes(16) if start is None else start
        query = f"SELECT {_COLUMNS} FROM images WHERE image_id {{}} ? ORDER BY image_id LIMIT ?"
        rows = self._db.execute(query.format(">="), (start, limit)).fetchall()
        rows += self._db.execute(query.format("<"), (start, limit - len(rows))).fetchall()
        return [_entry(row) for row in rows]

    def tombstones(self, segment_ids: Sequence[int]) -> list[tuple[str, int]]:
        """The tombstones that count, of those that came with the given segments: public path and sequence."""
        marks = ",".join("?" * len(segment_ids))
        query = f"SELECT path, sequence FROM tombstones WHERE segment IN ({marks}) ORDER BY path"
        return list(self._db.execute(query, list(segment_ids)))

    def highest_sequence(self) -> int:
        """The highest sequence of any record or tombstone, 0 in an empty store."""
        tables = ("images", "tombstones")
        highest = [self._db.execute(f"SELECT ifnull(max(sequence), 0) FROM {table}").fetchone()[0] for table in tables]
        return int(max(highest))

    def _one(self, where: str, values: Iterable[object]) -> CatalogEntry | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM images WHERE {where} LIMIT 1", tuple(values)).fetchone()
        return _entry(row) if row else None


def _values(record: ImageRecord, segment_id: int | None, row: int) -> tuple[object, ...]:
    path = record.public_path
    identity = bytes.fromhex(image_id(path))
    numbers = (record.size, record.mtime_ns, record.content_hash, record.width, record.height, record.sequence)
    return (path, len(record.root), identity, *numbers, segment_id, row, path, record.sequence)


def _below(folder: str) -> tuple[str, str]:
    # "0" is the character after "/": every path below the folder sorts between the two.
    return f"{folder}/", f"{folder}0"


def _entry(row: tuple[Any, ...]) -> CatalogEntry:
    path, root_length, identity, size, mtime_ns, content_hash, width, height, sequence, segment_id, number = row
    record = ImageRecord(
        root=path[:root_length],
        path=path[root_length + 1 :],
        size=size,
        mtime_ns=mtime_ns,
        content_hash=content_hash,
        width=width,
        height=height,
        sequence=sequence,
    )
    return CatalogEntry(identity.hex(), record, segment_id, number)
