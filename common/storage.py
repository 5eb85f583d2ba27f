"""Whether something can be written to the data folder: asked before the work that would be lost otherwise."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from pathlib import Path
from uuid import uuid4

from common.messages import SystemProblem

# A segment of a batch has some 10 MB. With less room than this even a small one may not fit.
MIN_FREE_BYTES = 32 << 20
_PROBE_BYTES = 4096
# Where the plans of jobs come and go, too; backups leave it out.
_PROBE_FOLDER = "jobs"
_LOOK_SECONDS = 10.0


def storage_problem(folder: Path, *, writes: bool) -> SystemProblem | None:
    """Why nothing can be written to a folder now; None if it can.

    Args:
        folder: The data folder.
        writes: Whether to write a small file for a trial. Only that shows a quota, or missing rights on another host's
            disk; without it only the free space is looked at.
    """
    try:
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
        if free < MIN_FREE_BYTES:
            return _full(folder, f"less than {MIN_FREE_BYTES >> 20} MB free")
        if writes:
            _write(folder)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return _full(folder, reason)
        return SystemProblem(
            kind="folder-not-writable",
            detail=f"The data folder {folder} on {socket.gethostname()} cannot be written to ({reason}): nothing new "
            "is indexed. Look at its disk, at how it is mounted, and whose it is. It goes on by itself.",
        )
    return None


def _full(folder: Path, how: str) -> SystemProblem:
    return SystemProblem(
        kind="disk-full",
        detail=f"The disk of the data folder {folder} on {socket.gethostname()} is full ({how}): nothing new is "
        "indexed until there is room. What is indexed can be searched. It goes on by itself.",
    )


def _write(folder: Path) -> None:
    # Not in the data folder itself: a program that makes a backup of it would find that it changes all the time.
    path = folder / _PROBE_FOLDER / f".probe-{uuid4().hex}.tmp"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(b"\0" * _PROBE_BYTES)
    finally:
        path.unlink(missing_ok=True)


class StorageFull(OSError):
    """Nothing can be written to the data folder at present: the work is done when it can."""


class StorageWatch:
    """Looks at a data folder now and then. May be used from any thread.

    Args:
        folder: The data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._looked_at = -_LOOK_SECONDS
        self._problem: SystemProblem | None = None

    def problem(self, *, at_once: bool = False) -> SystemProblem | None:
        """What is wrong, as of the last ten seconds; or of now."""
        with self._lock:
            now = time.monotonic()
            if at_once or now - self._looked_at >= _LOOK_SECONDS:
                self._problem = storage_problem(self._folder, writes=True)
                self._looked_at = now
            return self._problem

    def require(self) -> None:
        """Makes sure that what is done now can be stored.

        Raises:
            StorageFull: It could not.
        """
        # While something is wrong each look is a new one, so that the work begins as soon as it can.
        problem = self.problem(at_once=self._problem is not None)
        if problem is not None:
            raise StorageFull(errno.ENOSPC, problem.detail)
