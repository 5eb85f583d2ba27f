"""What a start of `up` does about the jobs that an earlier one left unfinished.

The store is the truth about what is indexed. So the tasks that still lie in the queues are dropped, and their
folders are looked through again: nothing is embedded twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from common.celery_app import QUEUES
from common.errors import JobStateConflict, LibraryError
from common.jobs import Client
from common.messages import FINAL_JOB_STATES, IndexJob
from common.progress import JobBoard
from common.redis_client import connect, reported
from common.settings import Settings

INTERRUPTED = "interrupted by a restart; its folder is being indexed again"
# Where Celery's Redis transport keeps the tasks that a worker has taken and not finished.
_TAKEN_TASKS = ("unacked", "unacked_index", "unacked_mutex")
_MANY_JOBS = 1000


@dataclass(frozen=True)
class InterruptedJob:
    """A job that had not ended."""

    folder: str
    paused: bool


def end_interrupted_jobs(settings: Settings) -> list[InterruptedJob]:
    """Clears the queues and ends unfinished jobs. Only for a Redis that nobody works on."""
    with reported(settings), connect(settings) as client:
        client.delete(*QUEUES, *_TAKEN_TASKS)
        board = JobBoard(client)
        interrupted = [job for job in board.latest(_MANY_JOBS) if job.state not in FINAL_JOB_STATES]
        for job in interrupted:
            board.fail(job.id, INTERRUPTED)
    # One job a folder is enough; a folder that anyone was waiting for is not left paused.
    folders = {job.folder: True for job in reversed(interrupted)}
    for job in interrupted:
        folders[job.folder] &= job.state == "paused"
    return [InterruptedJob(folder, paused) for folder, paused in folders.items()]


def submit_jobs(client: Client, folders: Sequence[str], interrupted: Sequence[InterruptedJob]) -> list[IndexJob]:
    """Submits index jobs for folders, and for those of interrupted jobs; each folder once.

    Returns:
        The jobs, and in place of a new one the job that is already under way for a folder.
    """
    under_way = {job.folder: job for job in client.jobs() if job.state not in FINAL_JOB_STATES}
    jobs = [under_way.get(folder) or client.submit_index_job(folder) for folder in folders]
    for earlier in interrupted:
        if earlier.folder not in folders:
            with suppress(LibraryError):  # the folder is not served any more
                job = client.submit_index_job(earlier.folder)
                if earlier.paused:
                    with suppress(JobStateConflict):  # it has ended already
                        job = client.pause_job(job.id)
                jobs.append(job)
    return jobs
