"""Which segments there are: keeps the catalog in step with the folder, and knows those that cannot be read."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path

from common.errors import FingerprintMismatch, StoreError, StoreUnreadable, UnsupportedFormatVersion
from common.models import ModelSpec
from common.store.catalog import Catalog
from common.store.replaced import replacement
from common.store.segment import SUFFIX, Segment

logger = logging.getLogger(__name__)

# Within this time of a change a directory's time stamp may hide a second change: two seconds are the coarsest clock of
# a file system, and some milliseconds the usual one.
_RACY_SECONDS = 2.0
_FINE_RACY_SECONDS = 0.02
# Readers look so often for a change that only the coarsest clock would hide. While a folder is being indexed there is
# always a change, and each search would read a list of thousands of files.
_LOOK_SECONDS = 0.25
# A reader waits so long for another thread that looks, and goes on with what is known.
_PATIENCE_SECONDS = 1.0
# A segment that the system could not open is tried again after this time, although nothing shows in the folder.
_TRY_AGAIN_SECONDS = 5.0

_Status = tuple[int, int]
"""Size and time of a file: whatever is known of a segment holds for as long as these stay."""


class Inventory:
    """The segments of one store.

    Args:
        folder: Where they lie.
        spec: The model that they must be of.
        catalog: Gets their records.

    Attributes:
        damaged: Name to what is wrong, of the segments that were left out. A file that is replaced gets another try.
        unreadable: The same of those that the system did not let us read: they are tried again and again.
    """

    def __init__(self, folder: Path, spec: ModelSpec, catalog: Catalog) -> None:
        self.damaged: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}
        self._folder = folder
        self._spec = spec
        self._catalog = catalog
        self._unsupported: dict[str, UnsupportedFormatVersion] = {}
        self._left_out: dict[str, _Status] = {}
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        # Whoever wants the folder to be listed whatever its time says leaves a new object in the first one.
        self._asked = self._answered = object()
        self._seen_mtime_ns = -1
        self._strict_until = self._lax_until = 0.0
        self._try_again_at = 0.0

    def open(self, name: str) -> Segment:
        """Opens a segment.

        Raises:
            FileNotFoundError: It is gone, or damaged and from now on left out.
            StoreUnreadable: The system does not let us read it at present.
        """
        path = self._folder / f"{name}{SUFFIX}"
        try:
            return Segment(path)
        except StoreError as error:
            # For whoever asks this is the same as a file that has vanished: the next `refresh` takes it out of the
            # catalog, and the search is repeated without it. Only then: all others of the host find the damage, too.
            with self._lock:
                status = path.stat()
                self._leave_out(name, (status.st_size, status.st_mtime_ns), error)
                self.look_again()
            raise FileNotFoundError(f"segment {name} is left out") from error

    def look_again(self) -> None:
        """Makes the next `refresh` look, whatever the folder's time says."""
        self._asked = object()

    def check_version(self) -> None:
        """Makes sure that no segment was left out because a newer software wrote it.

        Raises:
            UnsupportedFormatVersion: One was.
        """
        for name, error in self._unsupported.items():
            if name in self.damaged:
                raise error

    def refresh(self, *, strict: bool = True) -> bool:
        """Takes in segments that appeared and forgets those that went. Cheap when nothing changed.

        Args:
            strict: Whether nothing may be missed that had appeared before. Else, on a file system whose clock is
                coarse, a change that follows another one may show a quarter of a second late.

        Returns:
            Whether the catalog changed.

        Raises:
            OSError: The folder cannot be read.
            sqlite3.OperationalError: The catalog cannot be written, for instance because its disk is full.
        """
        if self._has_seen(self._mtime_ns(), strict=strict):
            return False
        # One thread at a time: those that wait for it want to see the same change, and find it seen then.
        if not self._looking.acquire(timeout=-1 if strict else _PATIENCE_SECONDS):
            return False
        try:
            mtime_ns = self._mtime_ns()
            return not self._has_seen(mtime_ns, strict=strict) and self._look(mtime_ns)
        finally:
            self._looking.release()

    def _look(self, mtime_ns: int) -> bool:
        """Looks at the folder, which has this time, and notes for how long that will do."""
        asked = self._asked
        began, age = time.monotonic(), (time.time_ns() - mtime_ns) / 1e9
        changed = self._catch_up()
        self._strict_until = began if age < _RACY_SECONDS else math.inf
        # Only a time of just now, by this host's clock, tells of a change that may have had company.
        self._lax_until = began if abs(age) < _FINE_RACY_SECONDS else self._strict_until + _LOOK_SECONDS
        # All this only here, behind what may fail.
        self._seen_mtime_ns, self._answered = mtime_ns, asked
        return changed

    def _mtime_ns(self) -> int:
        return self._folder.stat().st_mtime_ns

    def _has_seen(self, mtime_ns: int, *, strict: bool) -> bool:
        """Whether a folder of this time holds nothing new."""
        now = time.monotonic()
        if self._asked is not self._answered:
            return False
        if mtime_ns != self._seen_mtime_ns or (self.unreadable and now >= self._try_again_at):
            return False
        return now < (self._strict_until if strict else self._lax_until)

    def _catch_up(self) -> bool:
        if self._list() == self._known():
            self.unreadable.clear()  # another process of this host has read them
            return False
        with self._catalog.writing() as db:
            # Listed under the lock: an older listing would take out what a quicker process has taken in.
            files, known = self._list(), self._known()
            if known.keys() - files.keys():
                # A listing is not atomic: one taken during a compaction may miss the merged segment and its sources.
                files = self._list()
            gone = [row for row in self._catalog.segments() if files.get(row.name) != known[row.name]]
            new = sorted(name for name, status in files.items() if known.get(name) != status)
            # A file that was replaced under its name is forgotten first, a vanished one last: rows that moved to a
            # merged segment are not taken for lost then.
            lost = [self._catalog.drop_segment(db, row.id) for row in gone if row.name in files]
            taken = self._take(db, new, files)
            lost += [self._catalog.drop_segment(db, row.id) for row in gone if row.name not in files]
            if any(lost):
                self._catalog.clear(db)
                self._take(db, sorted(files), files)
            if taken or gone:
                self._catalog.bump(db)
        return bool(taken or gone)

    def _take(self, db: sqlite3.Connection, names: list[str], files: dict[str, _Status]) -> int:
        """Takes segments into the catalog. Returns how many of them could be read."""
        taken = 0
        for name in names:
            try:
                segment = Segment(self._folder / f"{name}{SUFFIX}")
                if segment.fingerprint != self._spec.fingerprint:
                    raise FingerprintMismatch(self._folder.parent, self._spec.fingerprint, segment.fingerprint)
                self._catalog.add_segment(db, segment, *files[name])
            except FileNotFoundError:
                continue  # compacted away since it was listed
            except StoreUnreadable as error:
                if name not in self.unreadable:
                    logger.warning("segment %s is left out for now: %s", name, error)
                self.unreadable[name] = str(error)
                self._try_again_at = time.monotonic() + _TRY_AGAIN_SECONDS
            except StoreError as error:
                # One rotten file must not take the others with it.
                self._leave_out(name, files[name], error)
            else:
                taken += 1
                self.damaged.pop(name, None)
                self.unreadable.pop(name, None)
        return taken

    def _leave_out(self, name: str, status: _Status, error: StoreError) -> None:
        if self._left_out.get(name) != status:
            logger.error("%s", error)
        self.unreadable.pop(name, None)
        self.damaged[name] = str(error)
        if isinstance(error, UnsupportedFormatVersion):
            self._unsupported[name] = error
        self._left_out[name] = status

    def _list(self) -> dict[str, _Status]:
        """The segments that count, without the files known to be damaged."""
        found, replacements = {}, []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if note := replacement(entry.name):
                    replacements.append(note)
                elif entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                    with suppress(FileNotFoundError):
                        status = entry.stat()
                        found[entry.name.removesuffix(SUFFIX)] = (status.st_size, status.st_mtime_ns)
        # In one step, from what was found: a merged segment may have been replaced itself.
        for name in {name for name, merged in replacements if merged in found}:
            found.pop(name, None)
        for left_out in (self.damaged, self.unreadable):
            for name in left_out.keys() - found.keys():
                left_out.pop(name, None)
        return {name: status for name, status in found.items() if self._left_out.get(name) != status}

    def _known(self) -> dict[str, _Status]:
        return {row.name: (row.size, row.mtime_ns) for row in self._catalog.segments()}
