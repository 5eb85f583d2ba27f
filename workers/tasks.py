"""The Celery tasks: thin bodies that parse, call and report.

What touches HDF5 or TensorFlow is imported inside them, because a prefork pool's parent imports this module.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

import redis
from celery import Task, shared_task
from kombu.exceptions import OperationalError

from common.celery_app import COMPACT, FIND_DUPLICATES, INDEX_BATCH, SCAN, SEARCH, TRAIN_CANDIDATES
from common.errors import DecoderUnavailable
from common.redis_client import is_refusal
from workers.runtime import runtime

logger = logging.getLogger(__name__)

REDIS_AWAY = (redis.ConnectionError, redis.TimeoutError, OperationalError)
# Bulk work is acknowledged when it is done: a worker that dies loses nothing. All of it may be repeated.
RELIABLE: dict[str, Any] = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    # Of Redis every error: one that is out of memory refuses what it takes again a moment later.
    "autoretry_for": (redis.RedisError, sqlite3.OperationalError, OSError, DecoderUnavailable),
    "retry_backoff": True,
    "max_retries": 8,
}


class JobTask(Task):  # type: ignore[misc]
    """A task of an index job, whose id is its first argument."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the retries are used up: the job must not look as if it were still running."""
        if isinstance(exc, REDIS_AWAY) or is_refusal(exc):
            return  # its lease runs out, and the work is sent again
        if runtime().storage.problem(at_once=True) is not None:
            return  # the same: it goes on when there is room again
        from workers.batches import fail_job

        fail_job(runtime(), args[0], f"{self.name} failed: {exc}. What was indexed so far is kept.")


# No events: to publish them costs as much as to take the task, and the searches are counted in the metrics.
@shared_task(name=SEARCH, send_events=False)
def search(search_id: str) -> None:
    """Answers a search. Acknowledged at once: an answer that comes after minutes helps nobody."""
    worker = runtime()
    taken = worker.searches.take(search_id)
    if taken is not None:
        with worker.unfinished.item(lambda: worker.send(SEARCH, search_id)):
            result, feature = worker.engine.answer(taken)
            worker.searches.finish(taken.record, result, feature)
        worker.previews.submit(result.id, taken.uploads or ())


@shared_task(name=SCAN, base=JobTask, **RELIABLE)
def scan_folder(job_id: str) -> None:
    """Starts the scan of a job's folder."""
    from workers.batches import start_scan

    start_scan(runtime(), job_id)


@shared_task(name=INDEX_BATCH, base=JobTask, **RELIABLE)
def index_batch(job_id: str, batch: str) -> None:
    """Indexes one batch of a job."""
    from workers.batches import run_batch

    run_batch(runtime(), job_id, batch)


@shared_task(name=COMPACT, acks_late=True)
def compact() -> None:
    """Merges small segments."""
    from common.store import KEEP_REPLACED_SECONDS
    from common.store import compact as compact_store

    report = compact_store(runtime().store, lazily=True, keep_seconds=KEEP_REPLACED_SECONDS)
    logger.info("compaction: %d segments merged into %d", report.merged, report.written)


@shared_task(name=TRAIN_CANDIDATES, acks_late=True)
def train_candidates() -> None:
    """Trains the basis of the candidate index, if the collection has outgrown the one it has."""
    from common.ranking.bases import train_if_outgrown

    train_if_outgrown(runtime().store)


# Acknowledged at once: it may take longer than the broker waits for an acknowledgement, and can be started again.
@shared_task(name=FIND_DUPLICATES)
def find_duplicates(job_id: str) -> None:
    """Looks for near-duplicates in the whole collection."""
    from workers.duplicates import run_duplicate_job

    run_duplicate_job(runtime(), job_id)
