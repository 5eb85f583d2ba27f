"""Jobs that look for near-duplicates: their state is in Redis, what they found in a file of the data folder."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, cast

import redis
from pydantic import Field

from common.errors import InvalidCursor, UnknownDuplicateJob
from common.files import atomic_path
from common.ids import checked_id
from common.messages import ImageLinks, Message
from common.progress import new_job_id
from common.redis_client import key

DEFAULT_MIN_SCORE = 0.97
# Less similar pictures are no duplicates, and there are too many pairs of them.
LEAST_MIN_SCORE = 0.8

DuplicateState = Literal["queued", "running", "done", "failed"]

_TTL_SECONDS = 7 * 24 * 3600
# No step of a job takes longer, unless its worker is gone.
_ALIVE_SECONDS = 900
# So many jobs are listed, and so many files are kept: those of the same jobs.
_KEPT = 20
_REPORT_EVERY_SECONDS = 0.5
_SUFFIX = ".jsonl"


class DuplicateImage(ImageLinks):
    """An image that has duplicates."""

    size: int = Field(description="bytes of the file")


class DuplicateGroup(Message):
    """Images that are the same or nearly the same."""

    images: list[DuplicateImage] = Field(description="in the order of their paths")
    lowest_score: float = Field(description="lowest cosine similarity of the pairs that connect them")
    best_score: float = Field(description="highest cosine similarity of the pairs that connect them")


class DuplicateJob(Message):
    """A search for near-duplicates in the whole collection."""

    id: str
    state: DuplicateState = "queued"
    min_score: float
    folder: str | None = None
    total: int = Field(0, description="images to compare")
    done: int = Field(0, description="images that were compared with their neighbours")
    found_groups: int = 0
    found_images: int = Field(0, description="images in all groups together")
    started_at: datetime
    finished_at: datetime | None = None
    error: str | None = None


class DuplicatePage(DuplicateJob):
    """A search for near-duplicates with some of the groups it found, the largest first."""

    groups: list[DuplicateGroup] = Field(default_factory=list)
    next_cursor: str | None = Field(None, description="pass it as `cursor` to get the next groups")


class DuplicateBoard:
    """Reads and writes these jobs.

    Args:
        client: Redis.
        data_dir: The data folder, shared by all hosts.
    """

    def __init__(self, client: redis.Redis, data_dir: Path) -> None:
        self._redis = client
        self._folder = data_dir / "duplicates"
        self._reported = 0.0

    def create(self, min_score: float, folder: str | None) -> DuplicateJob:
        """Stores a new job."""
        job = DuplicateJob(id=new_job_id(), min_score=min_score, folder=folder, started_at=_now())
        self._store(job)
        with self._redis.pipeline() as pipe:
            pipe.zadd(key("duplicates"), {job.id: job.started_at.timestamp()})
            pipe.zremrangebyrank(key("duplicates"), 0, -_KEPT - 1)
            pipe.expire(key("duplicates"), _TTL_SECONDS)
            pipe.execute()
        return job

    def get(self, job_id: str) -> DuplicateJob:
        """The job as it stands.

        Raises:
            UnknownDuplicateJob: There is none of this id, or it has expired.
        """
        job = self._read_jobs([job_id])[0]
        if job is None:
            raise UnknownDuplicateJob
        return job

    def latest(self) -> list[DuplicateJob]:
        """The latest jobs, newest first: those whose groups are kept."""
        ids = [raw.decode() for raw in cast("list[bytes]", self._redis.zrevrange(key("duplicates"), 0, -1))]
        return [job for job in self._read_jobs(ids) if job is not None]  # some may have expired

    def _read_jobs(self, job_ids: Sequence[str]) -> list[DuplicateJob | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.get(_key(job_id))
                pipe.exists(_key(job_id, "alive"))
            answers = pipe.execute()
        return [_view(data, alive) for data, alive in zip(answers[::2], answers[1::2], strict=True)]

    def begin(self, job_id: str) -> DuplicateJob | None:
        """Marks a job as running; None if it is not waiting any more."""
        try:
            job = self.get(job_id)
        except UnknownDuplicateJob:
            return None
        return self._store(job, state="running") if job.state == "queued" else None

    def put_back(self, job: DuplicateJob) -> None:
        """Lets a job wait again that its worker cannot end: the next one begins anew."""
        self._store(job, state="queued", done=0)

    def report(self, job: DuplicateJob, done: int, total: int) -> None:
        """Stores how far a job is, not more often than anybody can see."""
        now = time.monotonic()
        if done in (0, total) or now - self._reported > _REPORT_EVERY_SECONDS:
            self._reported = now
            # A moment without Redis must not end the work of minutes.
            with suppress(redis.RedisError):
                self._store(job, state="running", done=done, total=total)

    def finish(self, job: DuplicateJob, groups: Iterable[DuplicateGroup]) -> None:
        """Writes what a job has found, in the order of the groups, and marks it as done.

        Raises:
            OSError: The file cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        found_groups = found_images = 0
        with atomic_path(self._file(job.id), overwrite=True) as temporary, temporary.open("wb") as file:
            for group in groups:
                file.write(group.model_dump_json().encode() + b"\n")
                found_groups += 1
                found_images += len(group.images)
        current = self.get(job.id)
        counts = {"found_groups": found_groups, "found_images": found_images}
        self._store(current, state="done", error=None, done=current.total, finished_at=_now(), **counts)
        self._drop_old_files()

    def fail(self, job: DuplicateJob, error: str) -> None:
        """Marks a job as failed."""
        self._store(self.get(job.id), state="failed", error=error, finished_at=_now())

    def page(self, job_id: str, cursor: str | None, limit: int) -> DuplicatePage:
        """The job, and some of its groups once it is done.

        Args:
            job_id: The job.
            cursor: The `next_cursor` of the page before.
            limit: How many groups.

        Raises:
            UnknownDuplicateJob: There is none of this id, or its groups are not kept any more.
            InvalidCursor: It is none.
        """
        job = self.get(job_id)
        groups: list[DuplicateGroup] = []
        following: str | None = None
        if job.state == "done":
            groups, following = self._read(job_id, _offset(cursor), limit)
        return DuplicatePage(**job.model_dump(), groups=groups, next_cursor=following)

    def _read(self, job_id: str, offset: int, limit: int) -> tuple[list[DuplicateGroup], str | None]:
        try:
            with self._file(job_id).open("rb") as file:
                if offset:
                    file.seek(offset - 1)
                    if file.read(1) != b"\n":
                        raise InvalidCursor
                lines = [line for _ in range(limit) if (line := file.readline())]
                end = file.tell()
                more = bool(file.read(1))
        except FileNotFoundError:
            raise UnknownDuplicateJob from None
        return [DuplicateGroup.model_validate_json(line) for line in lines], str(end) if more else None

    def _file(self, job_id: str) -> Path:
        return self._folder / f"{checked_id(job_id)}{_SUFFIX}"

    def _store(self, job: DuplicateJob, **changes: object) -> DuplicateJob:
        changed = job.model_copy(update=changes)
        with self._redis.pipeline() as pipe:
            pipe.set(_key(job.id), changed.model_dump_json(), ex=_TTL_SECONDS)
            if changed.state == "running":
                pipe.set(_key(job.id, "alive"), 1, ex=_ALIVE_SECONDS)
            pipe.execute()
        return changed

    def _drop_old_files(self) -> None:
        # The names begin with the time.
        for path in sorted(self._folder.glob(f"*{_SUFFIX}"))[:-_KEPT]:
            path.unlink(missing_ok=True)


def _key(job_id: str, *parts: str) -> str:
    return key("duplicates", job_id, *parts)


def _view(data: bytes | None, alive: int) -> DuplicateJob | None:
    if data is None:
        return None
    job = DuplicateJob.model_validate_json(data)
    if job.state == "running" and not alive:
        return job.model_copy(update={"state": "failed", "error": "Its worker has ended: start it again."})
    return job


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _offset(cursor: str | None) -> int:
    if not cursor:
        return 0
    # Digits of other scripts are decimal, too; and no file is a petabyte long, to which it cannot be positioned.
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 12:
        raise InvalidCursor
    return int(cursor)
