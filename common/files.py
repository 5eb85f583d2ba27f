"""Files that are there whole or not at all."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def fsync_directory(directory: Path) -> None:
    """Makes a rename in `directory` survive a power loss."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives a temporary path beside `target`; publishes it as `target` when the block ends without an error.

    Args:
        target: The final path. Its directory must exist.
        overwrite: Whether an existing file is replaced. If not, the first writer wins and a later one's file is
            dropped without an error: what makes repeated work harmless.

    Yields:
        A path in the same directory, whose name starts with a dot and ends in `.tmp`.
    """
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(target)
        else:
            _publish_once(temporary, target)
        fsync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _publish_once(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return
    except OSError:
        # A file system without hard links. The window between the look and the rename is harmless to readers:
        # both files are whole, and the catalog notices a segment whose size or time changed.
        if not target.exists():
            temporary.replace(target)


def write_atomically(target: Path, data: bytes) -> None:
    """Replaces `target` by a file with `data`."""
    with atomic_path(target, overwrite=True) as temporary:
        temporary.write_bytes(data)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on a file, which is made if it is not there, while the block runs."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
