"""The batches of a job as files in the data folder: a message in the queue is only the name of one."""

from __future__ import annotations

import json
from pathlib import Path

from common.files import write_atomically
from common.ids import checked_id
from common.journal import JobJournal

# The rate assumed before any worker has measured its own, in images a second.
ASSUMED_RATE = 8.0
MIN_BATCH, MAX_BATCH = 16, 2048


class PlanFolder:
    """The lists of files of one job's batches."""

    def __init__(self, data_dir: Path, job_id: str) -> None:
        self._path = JobJournal(data_dir).folder(job_id)

    def write(self, batch: str, paths: list[str]) -> None:
        """Stores the public paths of a batch."""
        self._path.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file(batch), json.dumps(paths).encode())

    def read(self, batch: str) -> list[str] | None:
        """The public paths of a batch, or None if it was done and removed."""
        try:
            paths: list[str] = json.loads(self._file(batch).read_bytes())
        except FileNotFoundError:
            return None
        return paths

    def remove(self, batch: str) -> None:
        """Forgets a batch that is done."""
        self._file(batch).unlink(missing_ok=True)

    def _file(self, batch: str) -> Path:
        return self._path / f"batch-{checked_id(batch)}.json"


def batch_size(rate: float | None, seconds: float) -> int:
    """How many files make a batch of `seconds` at `rate` images a second."""
    return max(MIN_BATCH, min(MAX_BATCH, round((rate or ASSUMED_RATE) * seconds)))
