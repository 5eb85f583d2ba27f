"""What the processes of one web tier share: the folder in which they count together."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Read by `prometheus_client` when it is imported: with it, counters lie in files of this folder.
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SHARED_MEMORY = Path("/dev/shm")


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
    parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="imagesearch-metrics-", dir=parent)
    os.environ[_VARIABLE] = folder
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:  # a process that was forked in the block ends it, too
            shutil.rmtree(folder, ignore_errors=True)


def shared_folder() -> Path | None:
    """The folder in which the processes count together; None for a process alone."""
    folder = os.environ.get(_VARIABLE)
    return Path(folder) if folder else None
