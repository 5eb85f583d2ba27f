"""One delivery of one batch: decides whether it is still wanted, runs it, and counts it once."""

from __future__ import annotations

import logging

from common.celery_app import COMPACT, INDEX_BATCH
from common.errors import UnknownJob
from workers.planning import PlanFolder
from workers.runtime import Runtime

logger = logging.getLogger(__name__)

# A job that leaves this many segments behind asks for a compaction.
COMPACT_FROM_SEGMENTS = 16


def run_batch(worker: Runtime, job_id: str, batch: str) -> None:
    """Runs a batch unless it was done, its plan was replaced, or its job was cancelled; parks it if paused."""
    board = worker.jobs
    plan = int(batch.split("-")[0])
    try:
        job = board.get(job_id)
    except UnknownJob:
        logger.warning("batch %s of job %s is dropped: Redis has lost the job", batch, job_id)
        return
    if board.current_plan(job_id) != plan or board.batch_is_finished(job_id, batch):
        return
    if job.state == "paused":
        _park(worker, job_id, batch)
        return
    folder = PlanFolder(worker.settings.data_dir, job_id)
    paths = folder.read(batch)
    if job.state not in {"scanning", "running"}:
        folder.remove(batch)
        return
    if paths is None:
        if board.batch_is_finished(job_id, batch):
            return  # by another delivery, since we looked
        board.fail(job_id, f"The plan of batch {batch} is gone from the data folder. Index the folder again.")
        return
    outcome = worker.indexer.run(
        f"{job_id}-{batch}",
        paths,
        board.sequence(job_id, 0),
        lambda files: board.report_partial(job_id, batch, files),
    )
    ended = board.finish_batch(
        job_id, plan, batch, done=outcome.done, failed=outcome.failed, duplicates=outcome.duplicates
    )
    folder.remove(batch)
    if ended:
        folder.clear()
        if len(worker.store.catalog.segments()) >= COMPACT_FROM_SEGMENTS:
            worker.send(COMPACT)


def _park(worker: Runtime, job_id: str, batch: str) -> None:
    worker.jobs.park(job_id, batch)
    if worker.jobs.get(job_id).state != "paused":
        # It was resumed between our look and the parking: nobody else would come for this batch.
        for parked in worker.jobs.take_parked(job_id):
            worker.send(INDEX_BATCH, job_id, parked)
