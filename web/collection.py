"""The feature store as the web tier sees it: one open store, kept up to date, of the model in use."""

from __future__ import annotations

import sqlite3
import threading
from datetime import datetime, timezone

from common.errors import StoreUnreadable, UnknownImage
from common.messages import ImageInfo
from common.models import ModelSpec, resolved_model
from common.settings import Settings
from common.store import CatalogEntry, FeatureStore, open_store

# How long an image that is unknown is waited for; a catalog that is made anew takes longer.
_WAIT_SECONDS = 2.0
# The last second that a datetime can say; a file's time can be anything.
_LATEST = datetime.max.replace(tzinfo=timezone.utc, microsecond=0).timestamp()


class Collection:
    """Opens the store when it is first needed, and another one when the workers resolved another model."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: FeatureStore | None = None
        self._opening = threading.Lock()
        self._refreshing = threading.Lock()

    def store(self) -> FeatureStore | None:
        """The store, up to date, or None before any worker has loaded the model.

        Raises:
            StoreUnreadable: The data folder cannot be read.
        """
        try:
            spec = resolved_model(self._settings)
            if spec is None:
                return None
            store = self._current(spec)
            try:
                self._refresh(store)
            except StoreUnreadable:
                # Its folder was taken away under the running server.
                self._store = None
                store = self._current(spec)
                self._refresh(store)
        except OSError as error:
            raise StoreUnreadable(self._settings.data_dir, error) from error
        except sqlite3.OperationalError as error:  # the catalog cannot even be opened
            raise StoreUnreadable(self._settings.local_cache_dir, error) from error
        return store

    def store_if_readable(self) -> FeatureStore | None:
        """The store, or None also while the data folder cannot be read: for pages, which say so anyway."""
        try:
            return self.store()
        except StoreUnreadable:
            return None

    def find(self, image_id: str) -> tuple[FeatureStore, CatalogEntry]:
        """The image of an id, and the store that it is in.

        Raises:
            UnknownImage: There is none.
            StoreUnreadable: The data folder cannot be read.
        """
        store = self.store()
        if store is None:
            raise UnknownImage(image_id)
        try:
            return store, store.entry(image_id)
        except UnknownImage:
            # Another thread may be about to take it in, right after it was indexed.
            self._refresh(store, wait_seconds=_WAIT_SECONDS)
            return store, store.entry(image_id)

    def _current(self, spec: ModelSpec) -> FeatureStore:
        with self._opening:
            if self._store is None or self._store.spec.fingerprint != spec.fingerprint:
                self._store = open_store(self._settings, spec)
            return self._store

    def _refresh(self, store: FeatureStore, wait_seconds: float = 0.0) -> None:
        # One thread brings the catalog up to date; the others read on meanwhile.
        if self._refreshing.acquire(timeout=wait_seconds):
            try:
                store.keep_up()
            finally:
                self._refreshing.release()


def image_info(entry: CatalogEntry) -> ImageInfo:
    """The public record of an indexed image."""
    record = entry.record
    seconds = min(max(record.mtime_ns / 1e9, 0.0), _LATEST)
    return ImageInfo(
        image_id=entry.image_id,
        path=entry.path,
        width=record.width,
        height=record.height,
        size=record.size,
        modified_at=datetime.fromtimestamp(seconds, timezone.utc),
        content_hash=record.content_hash.hex(),
    )
