"""The disk under the stores: a small one that can be filled up and made read-only."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path

SIZE = "256m"


class StoreDisk:
    """A small tmpfs mounted on a folder. Mounting needs root; without it `is_mounted` stays false.

    Args:
        folder: Where it is mounted; made if needed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.is_mounted = _run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "imagesearch-chaos", str(folder))

    def fill(self) -> None:
        """Leaves no free byte."""
        with suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 2**16)

    def free(self) -> None:
        """Takes back what `fill` has taken."""
        self._filler.unlink(missing_ok=True)

    def make_read_only(self) -> bool:
        """Lets nobody write. Returns whether that worked: it waits for a moment in which no file is being written."""
        deadline = time.monotonic() + 10
        while not _run("mount", "-o", "remount,ro", str(self._folder)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def make_writable(self) -> None:
        """Ends what `make_read_only` has begun."""
        _run("mount", "-o", "remount,rw", str(self._folder))

    def remove(self) -> None:
        """Takes the disk away."""
        if self.is_mounted:
            _run("umount", "-l", str(self._folder))

    @property
    def _filler(self) -> Path:
        return self._folder / "somebody-elses-file"


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except FileNotFoundError:
        return False
