"""Walks a folder of the library and finds the picture files in it, in the byte order of their paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.library import Library, Location
from common.picture_names import is_picture_name, is_skipped_folder, is_utf8


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A picture file; `public_path` is `ROOT_NAME/relative/path`."""

    public_path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ScanProblem:
    """A file or folder that could not be looked at. What the store knows of it, and below it, is left alone."""

    public_path: str
    error: str
    is_folder: bool


def scan(library: Library, location: Location) -> Iterator[FoundFile | ScanProblem]:
    """Finds the picture files at any depth below a folder.

    Hidden files and folders are left out, as are links to folders: their targets are found where they are, if
    they are in the library, so a loop of links cannot trap the walk. A link to a file counts if its target is in
    the library.

    Args:
        library: The roots; nothing outside them is looked at.
        location: The folder.

    Yields:
        Files and problems in the byte order of their public paths, the order in which the catalog lists them.
        Memory is bounded by the largest single folder.

    Raises:
        OutsideLibrary: The folder is outside the library.
        FolderNotFound: It is not there.
    """
    yield from _walk(library, library.resolve_folder(location), location.public)


def _walk(library: Library, folder: Path, public: str) -> Iterator[FoundFile | ScanProblem]:
    # A stack of its own: folders may be nested deeper than Python calls.
    levels = [_entries(folder, public)]
    while levels:
        item = next(levels[-1], None)
        if item is None:
            levels.pop()
        elif isinstance(item, ScanProblem):
            yield item
        elif not is_utf8(item.entry.name):
            yield ScanProblem(_printable(item.path), "The name is not valid UTF-8: rename it.", is_folder=False)
        elif item.entry.is_dir(follow_symlinks=False):
            levels.append(_entries(Path(item.entry.path), item.path))
        else:
            yield from _file(library, item.entry, item.path)


class _Entry(NamedTuple):
    """What a folder holds, and its public path."""

    entry: os.DirEntry[str]
    path: str


def _entries(folder: Path, public: str) -> Iterator[_Entry | ScanProblem]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted((_sort_key(entry), entry) for entry in entries if not _is_skipped(entry))
    except OSError as error:
        yield ScanProblem(_printable(public), f"The folder cannot be read: {error.strerror}", is_folder=True)
        return
    for _, entry in listed:
        yield _Entry(entry, f"{public}/{entry.name}")


def _file(library: Library, entry: os.DirEntry[str], path: str) -> Iterator[FoundFile | ScanProblem]:
    try:
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            return
        if entry.is_symlink() and not library.contains(Path(entry.path)):
            yield ScanProblem(path, "The link points out of the library.", is_folder=False)
            return
    except OSError as error:
        yield ScanProblem(path, f"The file cannot be read: {error.strerror}", is_folder=False)
        return
    yield FoundFile(path, status.st_size, status.st_mtime_ns)


def _sort_key(entry: os.DirEntry[str]) -> tuple[bytes, str]:
    # A folder sorts as its contents do: by its name and a slash.
    suffix = "/" if entry.is_dir(follow_symlinks=False) else ""
    return os.fsencode(entry.name + suffix), entry.name


def _is_skipped(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False):
        return is_skipped_folder(entry.name)
    return not is_picture_name(entry.name)


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
