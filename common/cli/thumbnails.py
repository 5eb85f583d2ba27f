"""Thumbnails of indexed pictures, where the store is on this host."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ImageSearchError

if TYPE_CHECKING:
    from common.settings import Settings
    from common.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """What the store has of a picture: a JPEG or another encoded image, and the bytes of the original file."""

    data: bytes
    file_size: int


class Thumbnails:
    """Reads thumbnails from the store.

    A client needs only Redis, so that the data folder may be on other hosts; then there are none.

    Args:
        settings: Where the data folder is.

    Attributes:
        problem: Why there are none; None if there are.
    """

    def __init__(self, settings: Settings) -> None:
        self.problem: str | None = None
        self._store: FeatureStore | None = None
        try:
            self._store = _opened(settings)
        except (ImageSearchError, OSError, sqlite3.Error) as error:
            self.problem = f"No thumbnails: the store cannot be read on this host ({error})"

    def get(self, image_id: str) -> Thumbnail | None:
        """The thumbnail of an image, if it is there."""
        if self._store is None:
            return None
        try:
            entry = self._store.entry(image_id)
            return Thumbnail(self._store.thumbnail(entry), entry.record.size)
        except (ImageSearchError, OSError, sqlite3.Error):
            return None  # removed since the search, or in a damaged segment


def _opened(settings: Settings) -> FeatureStore:
    from common.store import open_store

    store = open_store(settings)
    store.keep_up()
    return store
