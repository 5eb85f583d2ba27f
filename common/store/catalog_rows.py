"""What the catalog gives: its rows as values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from common.store.segment import ImageRecord

Place = tuple[int, int]
"""The id of a segment and a row of it."""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A live image: its record, and the segment and row that hold its feature."""

    image_id: str
    record: ImageRecord
    segment_id: int
    row: int

    @property
    def path(self) -> str:
        """`ROOT_NAME/relative/path`."""
        return self.record.public_path


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A segment as the catalog knows it."""

    id: int
    name: str
    size: int
    mtime_ns: int
    count: int
    precision: str


@dataclass(frozen=True, slots=True)
class ContentRow:
    """A row of a segment that holds a certain content."""

    segment: str
    row: int
    width: int
    height: int


def image_id(public_path: str) -> str:
    """The id of an image: 32 hexadecimal digits that depend on its public path alone."""
    return hashlib.blake2b(public_path.encode(), digest_size=16).hexdigest()
