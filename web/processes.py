"""What the processes of one web tier share: the folder in which they count together."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Read by `prometheus_client` when it is imported: with it, counters lie in files of this folder.
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SHARED_MEMORY = Path("/dev/shm")
_PREFIX, _LOCK = "imagesearch-metrics-", "lock"


@contextmanager
def counting_together(processes: int) -> Iterator[None]:
    """Has the processes that are started in the block count together, if there is more than one.

    A scrape is answered by any one of them, and must not tell of that one alone. To be called before
    `prometheus_client` is imported.

    Args:
        processes: How many there will be.
    """
    if processes == 1:
        os.environ.pop(_VARIABLE, None)
        yield
        return
    # A counter is a write to a mapped file: on a disk each would be written back.
    parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _remove_left_over(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    owner = os.getpid()
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # also in the name of all that are forked, until the last one ends
        os.environ[_VARIABLE] = str(folder)
        try:
            yield
        finally:
            if os.getpid() == owner:  # a process that was forked in the block ends it, too
                shutil.rmtree(folder, ignore_errors=True)


def _remove_left_over(parent: Path) -> None:
    """Removes the folders of servers that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError), (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def shared_folder() -> Path | None:
    """The folder in which the processes count together; None for a process alone."""
    folder = os.environ.get(_VARIABLE)
    return Path(folder) if folder else None
