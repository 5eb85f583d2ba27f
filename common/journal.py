"""A note on disk of every index job that has begun and not ended, so that none is lost silently with Redis."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from common.files import write_atomically
from common.ids import checked_id
from common.messages import INTERRUPTED_PREFIX, IndexJob

INTERRUPTED = (
    f"{INTERRUPTED_PREFIX}: Redis has lost this job. Index the folder again: it continues from what is stored, "
    "and nothing is embedded twice."
)
_NOTE = "job.json"


class JobJournal:
    """The notes of jobs, `DATA_DIR/jobs/ID/job.json`; the plans of the jobs lie beside them."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "jobs"

    def folder(self, job_id: str) -> Path:
        """Where the files of a job are; it need not exist.

        Raises:
            ValueError: This is no id. What lies there is written and removed.
        """
        return self._path / checked_id(job_id)

    def begin(self, job: IndexJob) -> None:
        """Notes that a job has begun."""
        self.folder(job.id).mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder(job.id) / _NOTE, job.model_dump_json().encode())

    def end(self, job_id: str) -> None:
        """Forgets a job that has ended, and its plan."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def interrupted(self, is_known: Callable[[str], bool]) -> list[IndexJob]:
        """The noted jobs whose ids are not known any more, newest first, as failed."""
        lost = [job for job in self._all() if not is_known(job.id)]
        return [_as_failed(job) for job in sorted(lost, key=lambda job: job.id, reverse=True)]

    def find(self, job_id: str) -> IndexJob | None:
        """The noted job of an id, as failed."""
        # Not a path of the client's making: only a name that is listed.
        return next((_as_failed(job) for job in self._all() if job.id == job_id), None)

    def supersede(self, folder: str, is_known: Callable[[str], bool]) -> None:
        """Ends the notes of interrupted jobs that a new job on `folder` continues."""
        for job in self.interrupted(is_known):
            if job.folder == folder or job.folder.startswith(f"{folder}/"):
                self.end(job.id)

    def _all(self) -> Iterator[IndexJob]:
        try:
            folders = list(self._path.iterdir())
        except OSError:
            return  # no job yet, or a client without the data folder
        for folder in folders:
            try:
                yield IndexJob.model_validate_json((folder / _NOTE).read_bytes())
            except (OSError, ValidationError):
                continue  # ended meanwhile, or a plan without a note


def _as_failed(job: IndexJob) -> IndexJob:
    return job.model_copy(update={"state": "failed", "error": INTERRUPTED, "rate": None, "eta_seconds": None})
