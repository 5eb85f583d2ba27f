"""Compares what is on disk with what the catalog knows."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.errors import LibraryError
from common.library import Library, Location
from common.store import CatalogEntry, FeatureStore
from workers.scanning import FoundFile, ScanProblem, scan


@dataclass(frozen=True, slots=True)
class Gone:
    """An image of the catalog whose file is not there any more."""

    entry: CatalogEntry


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A file that the store holds with the same size and time."""

    entry: CatalogEntry


Change = FoundFile | ScanProblem | Gone | Unchanged


def compare(found: Iterator[FoundFile | ScanProblem], stored: Iterator[CatalogEntry]) -> Iterator[Change]:
    """Merges a scan with the catalog; both must be in the byte order of their public paths.

    Yields:
        `FoundFile` for what is new or changed, `Unchanged`, `Gone`, and every `ScanProblem` as it comes. What lies
        below a folder that cannot be read is not taken for gone.
    """
    entry = next(stored, None)
    unreadable: tuple[str, ...] = ()
    for item in found:
        key = item.public_path.encode()
        while entry is not None and entry.path.encode() < key:
            if not entry.path.startswith(unreadable or ("\0",)):
                yield Gone(entry)
            entry = next(stored, None)
        match = entry if entry is not None and entry.path == item.public_path else None
        if match is not None:
            entry = next(stored, None)
        if isinstance(item, ScanProblem):
            if item.is_folder:
                unreadable = (f"{item.public_path}/",)
            yield item
        elif match is not None and (match.record.size, match.record.mtime_ns) == (item.size, item.mtime_ns):
            yield Unchanged(match)
        else:
            yield item
    while entry is not None:
        if not entry.path.startswith(unreadable or ("\0",)):
            yield Gone(entry)
        entry = next(stored, None)


def compare_paths(library: Library, store: FeatureStore, public_paths: Sequence[str]) -> Iterator[Change]:
    """Compares single files, or folders with all that they hold, with the catalog, whatever else is beside them.

    Yields:
        As `compare`; a file that is neither on disk nor in the catalog gives nothing.
    """
    for public_path in sorted(set(public_paths)):
        entry = store.catalog.by_path(public_path)
        try:
            status = os.stat(library.resolve(Location.parse(public_path)))  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            if entry is not None:
                yield Gone(entry)
            continue
        except (OSError, LibraryError) as error:
            yield ScanProblem(public_path, str(error), is_folder=False)
            continue
        if stat.S_ISDIR(status.st_mode):
            # A folder that could not be read when the list was made.
            yield from compare(scan(library, Location.parse(public_path)), store.catalog.below(public_path))
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        if entry is not None and (entry.record.size, entry.record.mtime_ns) == (status.st_size, status.st_mtime_ns):
            yield Unchanged(entry)
        else:
            yield FoundFile(public_path, status.st_size, status.st_mtime_ns)
