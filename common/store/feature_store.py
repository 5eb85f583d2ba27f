"""The feature store of one model: sealed segments, and the catalog that says which row stands for which path."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from common.episodes import Episodes
from common.errors import (
    FingerprintMismatch,
    SegmentDamaged,
    StoreError,
    StoreUnreadable,
    UnknownImage,
    UnsupportedFormatVersion,
)
from common.files import write_atomically
from common.messages import Message
from common.models import ModelSpec
from common.store.catalog import LAYOUT, open_catalog
from common.store.catalog_rows import CatalogEntry
from common.store.folders import Folders
from common.store.inventory import Inventory
from common.store.segment import (
    FORMAT_VERSION,
    OLDEST_FORMAT_VERSION,
    SUFFIX,
    ImageRecord,
    Segment,
    SegmentContent,
    Tombstone,
    write_segment,
)

logger = logging.getLogger(__name__)

# After the catalog could not be brought up to date, it is not tried again for each search.
_REST_SECONDS = 2.0


class _Version(BaseModel):
    format_version: int


class _Manifest(Message):
    format: str = "imagesearch-store"
    format_version: int = FORMAT_VERSION
    model: ModelSpec


@dataclass(frozen=True, slots=True)
class StoredContent:
    """What the network and the decoder made of a file's content: (d,) float16, a thumbnail, the size in pixels."""

    feature: npt.NDArray[np.float16]
    thumbnail: bytes
    width: int
    height: int


class FeatureStore:
    """Reads and writes one store. Any number of processes on any number of hosts may do so at once.

    Args:
        path: The store's folder.
        spec: The model. The store is created for it if it does not exist.
        cache_dir: Folder on a local disk for what this host derives from the segments.

    Attributes:
        behind: Why the catalog lacks what was published last, as far as `keep_up` has noticed; None if it does not.

    Raises:
        FingerprintMismatch: The folder holds features of another model.
        UnsupportedFormatVersion: Another version of the software wrote it.
    """

    def __init__(self, path: Path, spec: ModelSpec, cache_dir: Path) -> None:
        self.path = path
        self.spec = spec
        self.segments_path = path / "segments"
        self.segments_path.mkdir(parents=True, exist_ok=True)
        self._check_manifest()
        self.cache_path = cache_dir / path.name
        self.catalog = open_catalog(self.cache_path / f"catalog-{LAYOUT}.sqlite")
        self.folders = Folders(self.catalog)
        self.behind: str | None = None
        self._inventory = Inventory(self.segments_path, spec, self.catalog)
        self._open: dict[str, Segment] = {}
        # The segments as of the last refresh: a file that was replaced under its name has another id.
        self._ids: dict[str, int] = {}
        self._generation = -1
        self._lock = threading.Lock()
        self._rest_until = 0.0
        self._episodes = Episodes(logger)

    def _check_manifest(self) -> None:
        path = self.path / "store.json"
        if not path.exists():
            write_atomically(path, _Manifest(model=self.spec).model_dump_json(indent=1).encode())
        data = path.read_bytes()
        try:
            # First: of another version nothing else can be expected to be as it is here.
            version = _Version.model_validate_json(data).format_version
            if not OLDEST_FORMAT_VERSION <= version <= FORMAT_VERSION:
                raise UnsupportedFormatVersion(path, version, FORMAT_VERSION)
            manifest = _Manifest.model_validate_json(data)
        except ValidationError as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        if manifest.model.fingerprint != self.spec.fingerprint:
            raise FingerprintMismatch(self.path, manifest.model.fingerprint, self.spec.fingerprint)

    def check_version(self) -> None:
        """Makes sure that all that is in the store can be read: else what is made of it would lack something.

        A newer software on another host may have written since the store was opened.

        Raises:
            UnsupportedFormatVersion: Another version of the software writes into it.
        """
        self._check_manifest()
        self._inventory.check_version()

    # --- writing -------------------------------------------------------------------------------------------

    def publish(
        self,
        name: str,
        *,
        precision: str,
        records: Sequence[ImageRecord] = (),
        features: npt.NDArray[np.floating[Any]] | None = None,
        thumbnails: Sequence[bytes] = (),
        tombstones: Sequence[Tombstone] = (),
    ) -> None:
        """Publishes one segment, whole or not at all; a name that exists already is left as it is.

        Args:
            name: The segment's name, from its job and batch, so that repeated work adds nothing twice.
            precision: The arithmetic of the features, such as `float32`.
            records: One for each row.
            features: (n, d), L2-normalised; stored as float16.
            thumbnails: An encoded image for each row.
            tombstones: Paths that are gone.

        Raises:
            UnsupportedFormatVersion: See `check_version`.
            OSError: It cannot be written. Nothing is published then.
        """
        self.check_version()
        if features is None:
            features = np.zeros((0, self.spec.dimension), np.float32)
        content = SegmentContent(features, records, thumbnails, tombstones)
        write_segment(self.segments_path, name, self.spec, precision, content)

    def next_sequence(self) -> int:
        """A sequence number above every one in the store: nanoseconds since the epoch, pushed up where needed.

        It works as a Lamport clock (Lamport 1978): hosts whose clocks differ still order a later job after what
        it could see.
        """
        self.refresh()
        self.check_version()
        return max(time.time_ns(), self.catalog.highest_sequence() + 1)

    # --- keeping up ----------------------------------------------------------------------------------------

    @property
    def damaged(self) -> dict[str, str]:
        """The segments that are left out because they are damaged: name to what is wrong."""
        return self._inventory.damaged

    @property
    def unreadable(self) -> dict[str, str]:
        """The segments that are left out because the system does not let us read them at present."""
        return self._inventory.unreadable

    def refresh(self, *, strict: bool = True) -> bool:
        """Takes in segments that appeared and forgets those that went. Cheap when nothing changed.

        Args:
            strict: See `Inventory.refresh`.

        Returns:
            Whether the catalog changed.
        """
        changed = self._inventory.refresh(strict=strict)
        # Whoever of this host's processes has brought the catalog up to date: all of them let go of what is gone.
        generation = self.catalog.generation
        if generation != self._generation:
            ids = {row.name: row.id for row in self.catalog.segments()}
            with self._lock:
                known = {name: self._ids.get(name, row_id) for name, row_id in ids.items()}
                self._open = {
                    name: segment for name, segment in self._open.items() if known.get(name) == ids.get(name, -1)
                }
                self._generation, self._ids = generation, ids
        return changed

    def keep_up(self) -> None:
        """`refresh` for those who only read, often: what cannot be taken in now is left for later.

        Raises:
            StoreUnreadable: There is no store to read any more, for instance because its disk is not mounted.
        """
        if time.monotonic() < self._rest_until:
            return
        try:
            self.refresh(strict=False)
            problem = None
        except FileNotFoundError as error:
            raise StoreUnreadable(self.segments_path, error) from error
        except sqlite3.OperationalError as error:
            problem = f"The catalog in {self.cache_path} cannot be brought up to date ({error}): make room on its disk."
        except OSError as error:
            problem = f"{self.segments_path} cannot be read ({error}): look at its disk and at how it is mounted."
        self._rest_until = 0.0 if problem is None else time.monotonic() + _REST_SECONDS
        self._episodes.note("catalog", problem)
        self.behind = problem

    # --- reading -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many images are live, as of the last `refresh`."""
        return self.catalog.count()

    def segment(self, name: str) -> Segment:
        """An open segment; kept open for the next call.

        Raises:
            FileNotFoundError: It was compacted away, or is damaged and left out: `refresh` and ask the catalog again.
            StoreUnreadable: The system does not let us read it at present.
        """
        with self._lock:
            if name not in self._open:
                self._open[name] = self._inventory.open(name)
            return self._open[name]

    def entry(self, image_id: str) -> CatalogEntry:
        """The image of an id.

        Raises:
            UnknownImage: It is not in the store.
        """
        entry = self.catalog.by_id(image_id)
        if entry is None:
            raise UnknownImage(image_id)
        return entry

    def feature(self, entry: CatalogEntry) -> npt.NDArray[np.float16]:
        """The stored feature of an image, (d,) float16."""
        entry, segment = self._locate(entry)
        return np.array(segment.features[entry.row])

    def thumbnail(self, entry: CatalogEntry) -> bytes:
        """The encoded thumbnail of an image."""
        entry, segment = self._locate(entry)
        return segment.thumbnail(entry.row)

    def has_content(self, content_hash: bytes) -> bool:
        """Whether a feature of this content (SHA-256) is stored. May be called from any thread."""
        return self.catalog.content(content_hash) is not None

    def content(self, content_hash: bytes) -> StoredContent | None:
        """What is stored of this content (SHA-256), from any image that had it, live or not."""
        for _ in range(2):
            found = self.catalog.content(content_hash)
            if found is None:
                return None
            try:
                segment = self.segment(found.segment)
                feature = np.array(segment.features[found.row])
                return StoredContent(feature, segment.thumbnail(found.row), found.width, found.height)
            except FileNotFoundError:
                self._inventory.look_again()  # compacted away since
                self.refresh()
        return None

    def _locate(self, entry: CatalogEntry) -> tuple[CatalogEntry, Segment]:
        names = {row.id: row.name for row in self.catalog.segments()}
        try:
            return entry, self.segment(names[entry.segment_id])
        except (KeyError, FileNotFoundError):
            # Compacted between the look-up and now: its row is elsewhere.
            self._inventory.look_again()
            self.refresh()
            entry = self.entry(entry.image_id)
            names = {row.id: row.name for row in self.catalog.segments()}
            return entry, self.segment(names[entry.segment_id])

    def verify(self) -> Iterator[tuple[str, list[str]]]:
        """Checks every segment against its checksums. Yields each one's name and its problems, if any."""
        for path in sorted(self.segments_path.glob(f"*{SUFFIX}")):
            try:
                segment = Segment(path)
                problems = segment.verify()
                if segment.fingerprint != self.spec.fingerprint:
                    problems.append(f"it holds features of another model ({segment.fingerprint})")
            except FileNotFoundError:
                continue
            except (SegmentDamaged, UnsupportedFormatVersion) as error:
                problems = [str(error)]
            yield path.stem, problems
