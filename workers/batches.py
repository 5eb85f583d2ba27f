"""The work of a job in one worker process: its scan, its batches, and what keeps them going when others die."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import threading
from contextlib import suppress
from contextvars import copy_context

import redis
from kombu.exceptions import OperationalError

from common import index_metrics
from common.celery_app import COMPACT, INDEX_BATCH, SCAN
from common.errors import ImageSearchError, UnknownJob
from common.journal import JobJournal
from common.log_context import log_context
from common.messages import FINAL_JOB_STATES
from common.redis_client import key
from common.worklist import SCAN_ITEM
from workers.indexing import BatchOutcome
from workers.plan_folder import PlanFolder
from workers.runtime import Runtime

logger = logging.getLogger(__name__)

# A job that leaves this many segments behind asks for a compaction.
COMPACT_FROM_SEGMENTS = 16
# A batch that ended a worker is cut into so many parts, until the guilty file is alone.
SPLIT_INTO = 8
# A single file that ended so many workers is given up; one or two of them may have died of something else.
MAX_ATTEMPTS_ALONE = 3
MAX_SCANS = 5
# What may be over in a moment: Redis or a disk is away, or full.
PASSING = (OSError, sqlite3.OperationalError, redis.RedisError, OperationalError)
# Batches of one job that are under way at a time, for each bulk worker: small, so that jobs share the workers.
WINDOW_PER_WORKER = 2
MIN_WINDOW = 4


def run_batch(worker: Runtime, job_id: str, batch: str) -> None:
    """Runs a batch, unless it is finished, held by another worker, or not wanted any more."""
    with worker.leased(job_id, batch) as attempt:
        if not attempt:
            return
        try:
            ended = _run_batch(worker, job_id, batch, attempt)
        except UnknownJob:
            logger.warning("batch %s of job %s: Redis has lost the job", batch, job_id)
            return
    if ended:
        end_job(worker, job_id)
    else:
        hand_out(worker, job_id)


def _run_batch(worker: Runtime, job_id: str, batch: str, attempt: int) -> bool:
    """Returns whether this batch ended the job."""
    board, plan = worker.jobs, int(batch.split("-")[0])
    worker.storage.require()  # or what the network has done would be lost
    if board.current_plan(job_id) != plan or board.batch_is_finished(job_id, batch):
        return False
    folder = PlanFolder(worker.settings.data_dir, job_id)
    paths = folder.read(batch)
    if paths is None:
        if not board.batch_is_finished(job_id, batch):
            _plan_again(worker, job_id, plan, batch)
        return False
    if attempt > 1 and len(paths) > 1:
        _split(worker, job_id, plan, batch, paths)
        return False
    if attempt > MAX_ATTEMPTS_ALONE:
        reason = f"It ended {attempt - 1} workers that were decoding or embedding it; it was given up."
        outcome = BatchOutcome()
        outcome.fail(paths[0], reason, "ended-its-worker")
    else:
        name = f"{job_id}-{batch}"
        sequence = board.sequence(job_id, 0)
        # The first batch's start is where the rate is measured from.
        board.report_partial(job_id, batch, 0)

        def report(files: int) -> None:
            worker.activity.beat()
            board.report_partial(job_id, batch, files)

        outcome = worker.indexer.run(name, paths, sequence, report)
    _count(worker, outcome)
    ended = board.finish_batch(
        job_id, plan, batch, done=outcome.done, failed=outcome.failed, duplicates=outcome.duplicates
    )
    folder.remove(batch)
    return ended


def _count(worker: Runtime, outcome: BatchOutcome) -> None:
    new, duplicates, failed = outcome.done - outcome.duplicates, outcome.duplicates, len(outcome.failed)
    took = outcome.seconds.get("total", 0.0)
    logger.info("%d files embedded, %d duplicates, %d failed in %.1f s", new, duplicates, failed, took)
    index_metrics.count(
        worker.redis, embedded=new, duplicates=duplicates, failed=outcome.reasons, seconds=outcome.seconds
    )


def _plan_again(worker: Runtime, job_id: str, plan: int, batch: str) -> None:
    """Scans once more for a batch whose list is gone: it was done, and Redis has lost its last second since."""
    if plan < MAX_SCANS and worker.jobs.work.open_scan(job_id):
        logger.warning("the plan of batch %s of job %s is gone: the folder is scanned again", batch, job_id)
        worker.send(SCAN, job_id)
    else:
        fail_job(worker, job_id, f"The plan of batch {batch} is gone from the data folder. Index the folder again.")


def _split(worker: Runtime, job_id: str, plan: int, batch: str, paths: list[str]) -> None:
    """Replaces a batch by smaller ones."""
    logger.warning("batch %s of job %s ended its worker: it is split", batch, job_id)
    size = -(-len(paths) // SPLIT_INTO)
    folder = PlanFolder(worker.settings.data_dir, job_id)
    names = []
    for number, start in enumerate(range(0, len(paths), size)):
        names.append(f"{batch}-{number}")
        folder.write(names[-1], paths[start : start + size])
    worker.jobs.split_batch(job_id, plan, batch, names)
    folder.remove(batch)


def start_scan(worker: Runtime, job_id: str) -> None:
    """Scans the folder of a job in a thread, so that its first batches need not wait for the end of the scan."""
    # With the context of the task, so that its lines and the tasks it sends name the request, too.
    run = copy_context().run
    thread = threading.Thread(target=run, args=(_scan, worker, job_id), name=f"scan-{job_id}", daemon=True)
    worker.background.add(thread)
    thread.start()


def _scan(worker: Runtime, job_id: str) -> None:
    try:
        _scan_leased(worker, job_id)
    finally:
        worker.background.discard(threading.current_thread())


def _scan_leased(worker: Runtime, job_id: str) -> None:
    attempt = 0
    try:
        with worker.leased(job_id, SCAN_ITEM) as attempt:
            if attempt > MAX_SCANS:
                fail_job(worker, job_id, f"The scan ended {attempt - 1} workers; it was given up.")
            elif attempt:
                _plan(worker, job_id)
    except PASSING as error:
        logger.warning("the scan of job %s was interrupted: %s", job_id, error)
        if attempt >= MAX_SCANS and worker.storage.problem(at_once=True) is None:
            fail_job(worker, job_id, f"The scan failed {attempt} times: {error}")
        else:
            with suppress(OperationalError):  # else it is missed after a while
                worker.send(SCAN, job_id, after_seconds=2.0 * max(1, attempt))
    except Exception as error:
        logger.exception("the scan of job %s failed", job_id)
        fail_job(worker, job_id, f"The scan failed: {error}")


def _plan(worker: Runtime, job_id: str) -> None:
    try:
        if worker.planner().plan(job_id, worker.batch_size()):
            end_job(worker, job_id)
    except UnknownJob:
        logger.warning("job %s is unknown: Redis has lost it", job_id)
    except ImageSearchError as error:
        fail_job(worker, job_id, str(error))


def hand_out(worker: Runtime, job_id: str) -> None:
    """Sends the next batches of a job to the queue, as far as its share of the workers allows."""
    window = max(MIN_WINDOW, WINDOW_PER_WORKER * worker.bulk_workers())
    batches = worker.jobs.work.hand_out(job_id, window)
    for number, batch in enumerate(batches):
        try:
            worker.send(INDEX_BATCH, job_id, batch)
        except PASSING:
            # They are out already, and would be missed only after a while.
            worker.leases.send_later(job_id, batches[number:])
            raise


def fail_job(worker: Runtime, job_id: str, reason: str) -> None:
    """Ends a job with an error."""
    logger.warning("job %s fails: %s", job_id, reason)
    worker.jobs.fail(job_id, reason)
    end_job(worker, job_id)


def end_job(worker: Runtime, job_id: str) -> None:
    """Clears up behind a job that has ended."""
    _forget(worker, job_id)
    if len(worker.store.catalog.segments()) >= COMPACT_FROM_SEGMENTS:
        worker.send(COMPACT)


def _forget(worker: Runtime, job_id: str) -> None:
    JobJournal(worker.settings.data_dir).end(job_id)
    # Last: a worker that dies in between leaves the job marked as active, and the next one finds it.
    worker.jobs.work.end(job_id)


def keep_going(worker: Runtime) -> None:
    """Finds work whose worker has died or whose message was lost, and sends it again. Called every few seconds."""
    work = worker.jobs.work
    jobs = work.active_jobs()
    for job_id in jobs:
        _release_dead_neighbours(worker, job_id)
    if not worker.redis.set(key("keeper"), worker.presence.name, nx=True, ex=3):
        return  # another worker does the rest
    queue_is_empty = worker.redis.llen("bulk") == 0
    for job_id in jobs:
        with log_context(job_id=job_id):
            _keep_job_going(worker, job_id, queue_is_empty=queue_is_empty)


def _keep_job_going(worker: Runtime, job_id: str, *, queue_is_empty: bool) -> None:
    work = worker.jobs.work
    try:
        if worker.jobs.get(job_id).state in FINAL_JOB_STATES:
            _forget(worker, job_id)  # cancelled, or its last worker died before it could
            return
    except UnknownJob:
        work.end(job_id)
        return
    for item in work.overdue(job_id, queue_is_empty=queue_is_empty):
        logger.warning("%s of job %s is sent again", item, job_id)
        send_item(worker, job_id, item)
    hand_out(worker, job_id)


def send_item(worker: Runtime, job_id: str, item: str) -> None:
    """Sends the message of a batch, or of the scan, to whichever worker takes it."""
    if item == SCAN_ITEM:
        worker.send(SCAN, job_id)
    else:
        worker.send(INDEX_BATCH, job_id, item)


def _release_dead_neighbours(worker: Runtime, job_id: str) -> None:
    """Lets go of what processes of this host held that are not there any more: sooner than their leases end."""
    for item, holder in worker.jobs.work.holders(job_id).items():
        host, _, pid = holder.rpartition("@")[2].rpartition(":")
        if host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid)):
            worker.jobs.work.expire(job_id, item, holder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
