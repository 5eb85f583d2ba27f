"""Keeps a folder of the library indexed while it changes: collects what happens in it, and submits jobs.

What an event says is only a hint that something is different at a path; what is there is read from the disk. A
file is submitted when it has been quiet for a second, so that no half-written file is indexed. Files go out
together, every two seconds at most: together with the quiet second that keeps a new file within the five seconds in
which it shall be found, and a long copy does not become a flood of jobs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import redis
from watchfiles import Change

from common.errors import FolderNotFound, LibraryError, ServiceUnavailable
from common.messages import IndexJob
from common.picture_names import is_picture_name, is_skipped_folder, is_utf8

QUIET_SECONDS = 1.0
SUBMIT_EVERY_SECONDS = 2.0
# A folder that is to be looked through waits so long at most for the files in it that are being written.
FOLDER_PATIENCE_SECONDS = 30.0
# More files than this are not named one by one: their folder is looked through.
MAX_PATHS = 5000


class FolderGone(LibraryError):
    """The watched folder is not there any more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            f"{folder} is gone, or is another folder now. Is the disk mounted? Nothing was removed from the "
            "collection. Start watching again when the folder is there."
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A job to be submitted: single files of a folder, or the whole folder if `paths` is None. Public paths."""

    folder: str
    paths: tuple[str, ...] | None = None


class _Look(NamedTuple):
    """What was at a path, and when it was looked at; size and time are None where there was no file."""

    at: float
    size: int | None
    mtime_ns: int | None


class FolderWatcher:
    """Collects changes below a folder and submits them as jobs.

    Args:
        folder: The folder on this host, with links resolved.
        public: Its public path.
        submit: Submits a job.
        say: Told in a line what happens.
        clock: The time in seconds.
    """

    def __init__(
        self,
        folder: Path,
        public: str,
        *,
        submit: Callable[[Request], IndexJob],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = folder
        self._public = public
        self._submit = submit
        self._say = say
        self._clock = clock
        self._identity = _identity(folder)
        # Paths relative to the root; the root itself is "".
        self._files: dict[str, _Look] = {}
        # To be looked through as a whole, and since when.
        self._folders: dict[str, float] = {"": clock() - QUIET_SECONDS}
        # An event does not tell whether what is gone was a folder.
        self._known: set[str] = {""}
        self._last_submit = clock() - SUBMIT_EVERY_SECONDS
        self._is_away = False
        for found, is_folder in self._below(""):
            if is_folder:
                self._known.add(found)

    def take(self, changes: Iterable[tuple[Change, str]]) -> None:
        """Notes what has happened at absolute paths."""
        gone: set[str] = set()
        for change, path in changes:
            relative = self._relative(path)
            if relative:
                self._note(relative, change, gone)
        if gone:
            self._known = {
                folder for folder in self._known if not any(above in gone for above in _with_parents(folder))
            }

    def tick(self) -> None:
        """Submits what is ready. To be called a few times a second.

        Raises:
            FolderGone: The watched folder was removed, or replaced by another one, as when a disk is unmounted.
        """
        if _identity(self._root) != self._identity:
            raise FolderGone(self._root)
        now = self._clock()
        if now - self._last_submit < SUBMIT_EVERY_SECONDS:
            return
        settled = self._settled(now)
        too_many = len(settled) > MAX_PATHS
        if too_many:
            self._folders.setdefault(self._common(settled), now - QUIET_SECONDS)
        ready = self._ready_folders(now)
        if not ready and (not settled or too_many):
            return
        self._last_submit = now
        try:
            for folder in ready:
                if folder in self._folders:  # else it went with the one above it
                    self._send_folder(folder, settled)
            loose = [file for file in settled if file in self._files]
            if loose and not too_many:
                self._send_files(loose)
        except (ServiceUnavailable, redis.RedisError) as error:
            if not self._is_away:
                self._is_away = True
                self._say(f"{error} What changes meanwhile is kept, and submitted as soon as possible.")
        else:
            if self._is_away:
                self._is_away = False
                self._say("Redis answers again.")
                if "" not in ready:
                    # A Redis that was away may have lost the jobs that had not ended by then.
                    self._folders.setdefault("", now)

    # --- events ----------------------------------------------------------------------------------------------

    def _relative(self, path: str) -> str | None:
        """The path below the root, or None if it does not count; the root itself is ""."""
        folder, name = os.path.split(path)
        # The system may report what is in a folder under the name of a link to it.
        real = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
        root = f"{self._root}/".replace("//", "/")
        if not real.startswith(root):
            return None
        relative = real[len(root) :]
        *folders, _ = relative.split("/")
        if any(is_skipped_folder(part) for part in folders) or not is_utf8(relative):
            return None
        return relative

    def _note(self, relative: str, change: Change, gone: set[str]) -> None:
        name = relative.rpartition("/")[2]
        if _is_folder(self._root / relative):
            if is_skipped_folder(name):
                return
            if change is Change.deleted:
                self._folders.setdefault(relative, self._clock())  # another folder has taken its place
            elif change is Change.added or relative not in self._known:
                self._note_new_folder(relative)
        elif relative in self._known:
            gone.add(relative)
            self._folders.setdefault(relative.rpartition("/")[0], self._clock())
        elif is_picture_name(name):
            self._files[relative] = self._look(relative)

    def _note_new_folder(self, relative: str) -> None:
        # What is in a folder that was moved here, or that was filled quickly, has no events of its own.
        self._known.add(relative)
        for found, is_folder in self._below(relative):
            if is_folder:
                self._known.add(found)
            elif found not in self._files:
                self._files[found] = self._look(found)

    def _below(self, relative: str) -> Iterator[tuple[str, bool]]:
        """The pictures and folders below a folder that count, each with whether it is a folder."""
        waiting = [relative]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self._root / folder) as entries:
                    listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            except OSError:
                continue  # gone again, or unreadable: the scan of a job reports that
            for name, is_folder in listed:
                path = f"{folder}/{name}".lstrip("/")
                if not is_utf8(name) or (is_skipped_folder(name) if is_folder else not is_picture_name(name)):
                    continue
                if is_folder:
                    waiting.append(path)
                yield path, is_folder

    # --- what is ready ---------------------------------------------------------------------------------------

    def _look(self, relative: str) -> _Look:
        try:
            status = os.stat(self._root / relative)  # noqa: PTH116
        except OSError:
            return _Look(self._clock(), None, None)
        return _Look(self._clock(), status.st_size, status.st_mtime_ns)

    def _settled(self, now: float) -> list[str]:
        """The files that have been quiet; one that has changed without an event begins to wait anew."""
        settled = []
        for file, earlier in self._files.items():
            if now - earlier.at < QUIET_SECONDS:
                continue
            look = self._look(file)
            if look[1:] == earlier[1:]:
                settled.append(file)
            else:
                self._files[file] = look
        return settled

    def _ready_folders(self, now: float) -> list[str]:
        """The folders that may be looked through now: not while something in them is being written."""
        busy = [file for file, look in self._files.items() if now - look.at < QUIET_SECONDS]
        ready: list[str] = []
        for folder, since in sorted(self._folders.items()):
            waited = now - since
            if _is_below(folder, ready):
                ready.append(folder)  # it goes with the one above it
            elif waited >= FOLDER_PATIENCE_SECONDS or (
                waited >= QUIET_SECONDS and not any(_is_below(file, [folder]) for file in busy)
            ):
                ready.append(folder)
        return ready

    # --- submitting ------------------------------------------------------------------------------------------

    def _send_folder(self, folder: str, settled: list[str]) -> None:
        target = self._existing(folder)
        try:
            job = self._submit(Request(self._public_path(target)))
        except FolderNotFound:
            return  # gone in this very moment: the next try looks higher up
        self._folders = {
            other: since for other, since in self._folders.items() if other != folder and not _is_below(other, [target])
        }
        for file in settled:
            if _is_below(file, [target]):
                self._files.pop(file, None)
        self._say(f"Job {job.id}: looking through {job.folder}")

    def _send_files(self, files: list[str]) -> None:
        folder = self._public_path(self._common(files))
        job = self._submit(Request(folder, tuple(self._public_path(file) for file in sorted(files))))
        for file in files:
            del self._files[file]
        what = self._public_path(files[0]) if len(files) == 1 else f"{len(files):,} files in {job.folder}"
        self._say(f"Job {job.id}: {what}")

    def _common(self, files: list[str]) -> str:
        """The nearest folder above all the files that is there."""
        return self._existing(os.path.commonpath([file.rpartition("/")[0] for file in files]))

    def _existing(self, folder: str) -> str:
        """The folder, or the nearest one above it that is there."""
        while folder and not _is_folder(self._root / folder):
            folder = folder.rpartition("/")[0]
        return folder

    def _public_path(self, relative: str) -> str:
        return f"{self._public}/{relative}" if relative else self._public


def _is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether a relative path is one of the folders or below one."""
    return any(not folder or path == folder or path.startswith(f"{folder}/") for folder in folders)


def _with_parents(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _is_folder(path: Path) -> bool:
    # Links to folders are not followed, as in the scan.
    return path.is_dir() and not path.is_symlink()


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
