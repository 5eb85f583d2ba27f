"""What a running `up` leaves for others: its lock, its addresses, and the processes it started.

The lock is the truth about whether one is running: the system drops it with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from common.errors import ImageSearchError
from common.files import write_atomically
from common.messages import Message
from common.settings import PREFIX, LibraryRoot, Settings, format_roots

_LOCK_PATIENCE_SECONDS = 0.5


class Child(Message):
    """A process that `up` started. It leads a session of its own, whose id is its pid."""

    name: str
    pid: int
    created: float


class RunRecord(Message):
    """The content of `DATA_DIR/run/up.json`."""

    pid: int
    address: str
    redis_url: str
    library_roots: tuple[LibraryRoot, ...]
    model: str
    weights: str
    precision: str
    booted: float
    children: tuple[Child, ...] = ()


class AlreadyRunning(ImageSearchError):
    """Another `imagesearch up` runs on this data folder."""

    def __init__(self, data_dir: Path, record: RunRecord | None) -> None:
        self.record = record
        where = f": {record.address} (process {record.pid})" if record else ""
        super().__init__(f"`imagesearch up` already runs on {data_dir}{where}. Stop it first, or use it.")


def run_folder(data_dir: Path) -> Path:
    """Where the files of a running `up` are."""
    return data_dir / "run"


def read_record(data_dir: Path) -> RunRecord | None:
    """The last record, whether or not that `up` still lives."""
    try:
        return RunRecord.model_validate_json((run_folder(data_dir) / "up.json").read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(data_dir: Path, record: RunRecord) -> None:
    """Replaces the record."""
    write_atomically(run_folder(data_dir) / "up.json", record.model_dump_json(indent=1).encode())


def remove_record(data_dir: Path) -> None:
    """Removes the record."""
    (run_folder(data_dir) / "up.json").unlink(missing_ok=True)


def take_lock(data_dir: Path) -> TextIO:
    """Takes the lock for the life of this process, or until the file that is returned is closed.

    Raises:
        AlreadyRunning: Another process has it.
    """
    run_folder(data_dir).mkdir(parents=True, exist_ok=True)
    file = (run_folder(data_dir) / "lock").open("w")
    # A client that only looks (`is_running`) holds the lock for an instant.
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise AlreadyRunning(data_dir, read_record(data_dir)) from None
            time.sleep(0.05)


def is_running(data_dir: Path) -> bool:
    """Whether some `up` runs on the data folder."""
    try:
        with (run_folder(data_dir) / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the command line: of the environment, completed by an `up` that runs on the data folder.

    With `IMAGESEARCH_REDIS_URL` set, only the environment counts.
    """
    environ = os.environ if environ is None else environ
    settings = Settings.load(environ)
    if environ.get(f"{PREFIX}REDIS_URL") or environ.get(f"{PREFIX}REDIS_URL_FILE"):
        return settings
    record = read_record(settings.data_dir)
    if record is None or not is_running(settings.data_dir):
        return settings
    return settings.model_copy(
        update=record.model_dump(include={"redis_url", "model", "weights", "precision"})
        | {"library_roots": record.library_roots}
    )


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment in which a program of the product sees these settings, wherever it is started."""
    # The folder that holds the packages, for a checkout that is not installed.
    project = str(Path(__file__).parents[2])
    inherited = os.environ.get("PYTHONPATH")
    changed = {
        f"{PREFIX}REDIS_URL": settings.redis_url,
        f"{PREFIX}DATA_DIR": str(settings.data_dir.absolute()),
        f"{PREFIX}LIBRARY_ROOTS": format_roots(settings.library_roots),
        f"{PREFIX}MODEL": settings.model,
        f"{PREFIX}WEIGHTS": settings.weights,
        f"{PREFIX}PRECISION": settings.precision,
        f"{PREFIX}THREADS": str(settings.threads),
        "PYTHONPATH": f"{project}{os.pathsep}{inherited}" if inherited else project,
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **changed}
