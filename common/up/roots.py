"""Which folders a machine serves: those of the settings, the one given now, and those given earlier."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from common.errors import ConfigurationError, FolderNotFound
from common.files import write_atomically
from common.library import Library
from common.settings import LibraryRoot, Settings, format_roots, parse_roots
from common.up.run_record import run_folder
from common.up.sample import make_sample_library

_ROOTS = TypeAdapter(tuple[LibraryRoot, ...])


def choose_roots(
    settings: Settings, images: Path | None, say: Callable[[str], None]
) -> tuple[tuple[LibraryRoot, ...], list[str]]:
    """Decides what is served and what is indexed at the start.

    Args:
        settings: Its library roots come first.
        images: The folder to add. Without it every root is looked through again; where there is none, a sample
            library is made.
        say: Told what the person at the terminal should know.

    Returns:
        The roots, and the public paths of the folders to index.

    Raises:
        FolderNotFound: `images` is not a folder.
        ConfigurationError: `images` cannot be named in the settings.
    """
    path = run_folder(settings.data_dir) / "roots.json"
    roots = list(settings.library_roots)
    remembered: list[LibraryRoot] = []
    for root in _read(path):
        if root.path in {known.path for known in roots}:
            continue
        if root.path.is_dir():
            remembered.append(_named(root.path, [*roots, *remembered]))
        else:
            say(f"{root.path} was served earlier and is gone now: it is left out.")
    roots += remembered
    if images is None and roots:
        return tuple(roots), [root.name for root in roots]
    folder = _absolute(images) if images else make_sample_library(settings.data_dir / "sample-library", say).absolute()
    library = Library(tuple(roots))
    if library.contains(folder):
        return tuple(roots), [library.locate(str(folder)).public]
    added = _named(folder, roots)
    write_atomically(path, _ROOTS.dump_json((*remembered, added), indent=1))
    return (*roots, added), [added.name]


def _read(path: Path) -> tuple[LibraryRoot, ...]:
    try:
        return _ROOTS.validate_python(json.loads(path.read_bytes()))
    except (OSError, ValueError, ValidationError):
        return ()


def _absolute(images: Path) -> Path:
    folder = images.expanduser().absolute()
    if not folder.is_dir():
        raise FolderNotFound(str(images))
    return folder.resolve()


def _named(folder: Path, taken: list[LibraryRoot]) -> LibraryRoot:
    """A root for the folder, under its own name; `NAME-2` and so on where that is taken."""
    base = folder.name.replace("=", "-") or "root"
    names = {root.name for root in taken}
    name = next(name for number in range(1, len(names) + 2) if (name := _numbered(base, number)) not in names)
    root = LibraryRoot(name=name, path=folder)
    if parse_roots(format_roots((root,))) != (root,):
        raise ConfigurationError("--images", f"{folder} has ':' or spaces at an end in its name; use a link to it")
    return root


def _numbered(base: str, number: int) -> str:
    return base if number == 1 else f"{base}-{number}"
