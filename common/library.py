"""The library: named folders of pictures. The one place that turns client-given names into paths on this host.

A public path is `ROOT_NAME/relative/path`. It is the same on every host, wherever that host mounts the root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from common.errors import FolderNotFound, OutsideLibrary
from common.settings import LibraryRoot


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the library: a root's name and a relative POSIX path, empty for the root itself."""

    root: str
    relative: str

    @property
    def public(self) -> str:
        """`ROOT_NAME/relative/path`."""
        return f"{self.root}/{self.relative}" if self.relative else self.root

    @classmethod
    def parse(cls, public: str) -> Location:
        """Splits a public path; does not look at the disk.

        Raises:
            OutsideLibrary: The path has parts such as `..` that no public path has.
        """
        parts = PurePosixPath(public.strip("/")).parts
        if not parts or ".." in parts or not _is_path(public):
            raise OutsideLibrary(public, [])
        return cls(parts[0], "/".join(parts[1:]))


class Library:
    """The library roots as this host mounts them."""

    def __init__(self, roots: tuple[LibraryRoot, ...]) -> None:
        self._roots = {root.name: root.path for root in roots}
        self._real = {name: Path(os.path.realpath(path)) for name, path in self._roots.items()}

    @property
    def names(self) -> list[str]:
        """The names of the roots."""
        return list(self._roots)

    def is_mounted(self, root: str) -> bool:
        """Whether this host has the folder of a root."""
        return root in self._real and self._real[root].is_dir()

    def locate(self, folder: str) -> Location:
        """Finds the place that a client means by a public path or by an absolute path under a root.

        Raises:
            OutsideLibrary: It is under no root.
        """
        if not _is_path(folder):
            raise self._outside(folder)
        if folder.startswith("/"):
            # Both as it is spelled and with links resolved: a root may itself be a link.
            for path in (Path(os.path.normpath(folder)), Path(os.path.realpath(folder))):
                for name, root in sorted(self._all_roots(), key=lambda item: -len(item[1].parts)):
                    if path.is_relative_to(root):
                        relative = path.relative_to(root).as_posix()
                        return Location(name, "" if relative == "." else relative)
            raise self._outside(folder)
        try:
            location = Location.parse(folder)
        except OutsideLibrary:
            raise self._outside(folder) from None
        if location.root not in self._roots:
            raise self._outside(folder)
        return location

    def resolve(self, location: Location) -> Path:
        """The path on this host, links resolved, for reading.

        Raises:
            OutsideLibrary: The root is not known here, or the path leads out of every root (through a link).
        """
        if location.root not in self._real:
            raise self._outside(location.public)
        real = Path(os.path.realpath(self._real[location.root] / location.relative))
        if not self._holds(real):
            raise self._outside(location.public)
        return real

    def contains(self, path: Path) -> bool:
        """Whether a path of this host, with all links resolved, is in the library."""
        return self._holds(Path(os.path.realpath(path)))

    def _holds(self, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self._real.values())

    def resolve_folder(self, location: Location) -> Path:
        """`resolve` for a folder that must exist.

        Raises:
            OutsideLibrary: As `resolve`.
            FolderNotFound: It is not there, or not a folder.
        """
        path = self.resolve(location)
        # Not `path.is_dir()`: that raises when a name is too long.
        if not os.path.isdir(path):  # noqa: PTH112
            raise FolderNotFound(str(path))
        return path

    def _all_roots(self) -> list[tuple[str, Path]]:
        return [*self._roots.items(), *self._real.items()]

    def _outside(self, path: str) -> OutsideLibrary:
        return OutsideLibrary(path, [f"{name} ({root})" for name, root in self._roots.items()])


def _is_path(text: str) -> bool:
    """Whether the text can be a path: JSON may bring NUL and halves of surrogate pairs."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
