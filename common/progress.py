"""The live state of index jobs, in Redis. Counts files, never tasks.

A job has one hash with its counters. A batch adds to them exactly once, however often it is delivered: its name
goes into a set in the same atomic step. What a running batch has done so far is kept beside it (`partial`) and
only shown.

A scan that is delivered again starts a new *plan*: the counters start again from what the store holds, and
batches of an older plan no longer count.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, cast

import redis

from common import index_metrics
from common import job_scripts as scripts
from common.errors import JobStateConflict, UnknownJob
from common.messages import FileError, IndexJob, JobState
from common.redis_client import key
from common.worklist import WorkList, add_scan

KEEP_FINISHED_SECONDS = 30 * 24 * 3600
RATE_WINDOW_SECONDS = 60.0

_COUNTERS = ("found", "unchanged", "duplicates", "total", "done", "failed", "removed")

_WORKED_ON = frozenset({"scanning", "running"})


def new_job_id() -> str:
    """An id that sorts by time and can be read aloud."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{time.time_ns() % 0x1000000:06x}"


class JobBoard:
    """Reads and writes the state of index jobs."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._read = client.register_script(scripts.READ)
        self._add = client.register_script(scripts.ADD)
        self._finish_batch = client.register_script(scripts.FINISH_BATCH)
        self._finish_scan = client.register_script(scripts.FINISH_SCAN)
        self._control = client.register_script(scripts.CONTROL)
        self._split_batch = client.register_script(scripts.SPLIT_BATCH)
        self._start_plan = client.register_script(scripts.START_PLAN)
        self._sequence = client.register_script(scripts.SEQUENCE)
        self._fail = client.register_script(scripts.FAIL)
        self.work = WorkList(client)

    # --- clients -------------------------------------------------------------------------------------------

    def create(self, folder: str, *, paths: Sequence[str] | None = None, allow_empty: bool = False) -> IndexJob:
        """Makes a new job in state `scanning`.

        Args:
            folder: A public path.
            paths: Public paths of files: the job is about these alone, whatever else the folder holds.
            allow_empty: Whether to take out all images of a folder that holds no pictures any more.
        """
        job_id, now = new_job_id(), time.time()
        fields: dict[Any, Any] = {"folder": folder, "phase": "scanning", "control": "", "plan": 0, "scanned": 0}
        fields |= {"started_at": now, "allow_empty": int(allow_empty), **dict.fromkeys(_COUNTERS, 0)}
        with self._redis.pipeline() as pipe:
            pipe.hset(_job(job_id), mapping=fields)
            if paths is not None:
                pipe.set(_job(job_id, "paths"), json.dumps(list(paths)))
            pipe.zadd(key("jobs"), {job_id: now})
            add_scan(pipe, job_id)  # in the same step: a job without a scan would never end
            pipe.execute()
        return self.get(job_id)

    def get(self, job_id: str) -> IndexJob:
        """The job as it stands.

        Raises:
            UnknownJob: There is none of this id.
        """
        keys = [_job(job_id), _job(job_id, "partial"), _job(job_id, "samples")]
        fields, partial, samples = cast("list[list[bytes]]", self._read(keys=keys))
        if not fields:
            raise UnknownJob(job_id)
        named = dict(zip(fields[::2], fields[1::2], strict=True))
        return _view(job_id, _decode(named), [int(value) for value in partial], samples)

    def is_known(self, job_id: str) -> bool:
        """Whether Redis has the job."""
        return bool(self._redis.exists(_job(job_id)))

    def latest(self, limit: int = 100) -> list[IndexJob]:
        """The latest jobs, newest first."""
        ids = [raw.decode() for raw in cast("list[bytes]", self._redis.zrevrange(key("jobs"), 0, limit - 1))]
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(_job(job_id))
            answers = pipe.execute()
        jobs = []
        for job_id, answer in zip(ids, answers, strict=True):
            fields = _decode(answer)
            try:
                # Of a job that has ended nothing else counts, and most have.
                ended = bool(fields) and fields["phase"] not in _WORKED_ON
                jobs.append(_view(job_id, fields, [], []) if ended else self.get(job_id))
            except UnknownJob:
                self._redis.zrem(key("jobs"), job_id)  # it has expired
        return jobs

    def errors(self, job_id: str) -> list[FileError]:
        """The files that failed, by path, each with its reason."""
        self.get(job_id)
        errors = cast("dict[bytes, bytes]", self._redis.hgetall(_job(job_id, "errors")))
        return [FileError(path=path.decode(), error=error.decode()) for path, error in sorted(errors.items())]

    def control(self, job_id: str, action: str) -> IndexJob:
        """Marks the job as `paused`, `resumed` or `cancelled`.

        Raises:
            UnknownJob: There is none of this id.
            JobStateConflict: The job has ended, or is not paused.
        """
        before = self._control(keys=[_job(job_id)], args=[action, time.time()])
        if before is None:
            raise UnknownJob(job_id)
        if before:
            raise JobStateConflict(job_id, before.decode(), action)
        if action == "cancelled":
            self._expire(job_id)
        return self.get(job_id)

    # --- workers -------------------------------------------------------------------------------------------

    def start_plan(self, job_id: str) -> int | None:
        """Starts a scan: a new plan number, all counters at zero, no errors. None if the job has ended.

        Raises:
            UnknownJob: There is none of this id.
        """
        cleared = [_job(job_id, part) for part in ("errors", "partial", "batches", "samples")]
        plan = int(cast("int", self._start_plan(keys=[_job(job_id), *cleared], args=_COUNTERS)))
        if plan == 0:
            raise UnknownJob(job_id)
        if plan < 0:
            return None
        self.work.clear_batches(job_id)
        return plan

    def options(self, job_id: str) -> tuple[list[str] | None, bool]:
        """What the job was created with: the paths it is about, if it is not a whole folder, and `allow_empty`."""
        paths = cast("bytes | None", self._redis.get(_job(job_id, "paths")))
        allow_empty = cast("bytes | None", self._redis.hget(_job(job_id), "allow_empty"))
        return (json.loads(paths) if paths is not None else None), allow_empty == b"1"

    def current_plan(self, job_id: str) -> int | None:
        """The number of the plan that counts, or None if the job is unknown."""
        value = cast("bytes | None", self._redis.hget(_job(job_id), "plan"))
        return int(value) if value is not None else None

    def sequence(self, job_id: str, proposed: int) -> int:
        """The sequence number of the job's records: the first one proposed, also for a repeated scan."""
        value = cast("bytes | None", self._sequence(keys=[_job(job_id)], args=[proposed]))
        if value is None:
            raise UnknownJob(job_id)
        return int(value)

    def add(
        self,
        job_id: str,
        counts: Mapping[str, int],
        errors: Mapping[str, str] | None = None,
        *,
        plan: int | None = None,
    ) -> bool:
        """Adds to the counters of the running scan, and to the error list.

        Args:
            job_id: The job.
            counts: Counter to what is added.
            errors: Path to reason.
            plan: If given, nothing is added unless this plan is still being scanned.

        Returns:
            Whether it was added.
        """
        counters = [part for item in counts.items() for part in item]
        failed = [part for item in (errors or {}).items() for part in item]
        keys = [_job(job_id), _job(job_id, "errors")]
        args = ["" if plan is None else plan, secrets.token_hex(8), len(counters), *counters, *failed]
        added = bool(self._add(keys=keys, args=args))
        if added and errors:
            index_metrics.count(self._redis, failed={"scan-problem": len(errors)})
        return added

    def finish_scan(self, job_id: str, plan: int) -> bool:
        """Says that the plan is complete. Returns whether that ended the job."""
        ended = bool(self._finish_scan(keys=[_job(job_id)], args=[plan, time.time()]))
        if ended:
            self._expire(job_id)
        return ended

    def batch_is_finished(self, job_id: str, batch: str) -> bool:
        """Whether the batch was already counted."""
        return bool(self._redis.sismember(_job(job_id, "batches"), batch))

    def report_partial(self, job_id: str, batch: str, files: int) -> None:
        """Shows how many files of a running batch are through."""
        if self.is_known(job_id):  # else Redis has lost it
            self._redis.hset(_job(job_id, "partial"), batch, files)
            self._sample(job_id)

    def finish_batch(
        self, job_id: str, plan: int, batch: str, *, done: int, failed: Mapping[str, str], duplicates: int
    ) -> bool:
        """Counts a batch, once. Returns whether that ended the job."""
        pairs = [part for item in failed.items() for part in item]
        outcome = self._finish_batch(
            keys=[_job(job_id), _job(job_id, "batches"), _job(job_id, "partial"), _job(job_id, "errors")],
            args=[plan, batch, time.time(), done, len(failed), duplicates, *pairs],
        )
        if outcome == 1:
            self._sample(job_id)
        if outcome == 2:
            self._expire(job_id)
        return bool(outcome == 2)

    def split_batch(self, job_id: str, plan: int, batch: str, parts: Sequence[str]) -> None:
        """Puts parts into the place of a batch, unless the batch is finished. Nothing is counted for itself."""
        keys = [_job(job_id), *(_job(job_id, part) for part in ("batches", "partial", "todo"))]
        self._split_batch(keys=keys, args=[plan, batch, *parts])

    def fail(self, job_id: str, reason: str) -> None:
        """Ends the whole job with an error, unless it has ended already."""
        if self._fail(keys=[_job(job_id)], args=[reason, time.time()]):
            self._expire(job_id)

    def _sample(self, job_id: str) -> None:
        """Remembers how many files were through at this moment; the rate comes from these."""
        job = self.get(job_id)
        with self._redis.pipeline() as pipe:
            pipe.rpush(_job(job_id, "samples"), f"{time.time():.3f} {job.done + job.failed}")
            pipe.ltrim(_job(job_id, "samples"), -240, -1)
            pipe.execute()

    def _expire(self, job_id: str) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            for name in (_job(job_id), _job(job_id, "errors")):
                pipe.expire(name, KEEP_FINISHED_SECONDS)
            pipe.delete(*(_job(job_id, part) for part in ("partial", "paths")))
            pipe.expire(_job(job_id, "batches"), KEEP_FINISHED_SECONDS)
            pipe.expire(_job(job_id, "samples"), KEEP_FINISHED_SECONDS)
            pipe.execute()


def _job(job_id: str, *parts: str) -> str:
    return key("job", job_id, *parts)


def _decode(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


def _view(job_id: str, fields: dict[str, str], partial: list[int], samples: list[bytes]) -> IndexJob:
    phase = fields["phase"]
    state = cast("JobState", fields["control"] or phase)
    counters = {name: int(fields[name]) for name in _COUNTERS}
    if phase in _WORKED_ON:
        counters["done"] = min(counters["done"] + sum(partial), counters["total"] - counters["failed"])
    rate = _rate([sample.decode() for sample in samples])
    remaining = counters["total"] - counters["done"] - counters["failed"]
    running = state in {"scanning", "running"}
    finished = fields.get("finished_at")
    return IndexJob(
        id=job_id,
        folder=fields["folder"],
        state=state,
        rate=rate if running else None,
        eta_seconds=remaining / rate if state == "running" and rate else None,
        started_at=_time(fields["started_at"]),
        finished_at=_time(finished) if finished else None,
        error=fields.get("error"),
        **counters,
    )


def _time(value: str) -> datetime:
    return datetime.fromtimestamp(float(value), timezone.utc)


def _rate(samples: list[str]) -> float | None:
    """Files a second over the last minute of samples, or None while too little is known."""
    points = [(float(when), int(count)) for when, count in (sample.split() for sample in samples)]
    if len(points) < 2:
        return None
    last_time, last_count = points[-1]
    first_time, first_count = next(point for point in points if last_time - point[0] <= RATE_WINDOW_SECONDS)
    elapsed = last_time - first_time
    return (last_count - first_count) / elapsed if elapsed > 0.2 else None
