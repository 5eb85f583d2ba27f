"""One delivery of one batch, with a fake model and everything else real."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from common import storage
from common.celery_app import COMPACT, INDEX_BATCH, make_celery
from common.messages import IndexJob
from common.settings import Settings
from common.storage import StorageFull
from common.store import FeatureStore
from tests.fakes import FakeExtractor
from tests.unit.helpers import add_picture, live
from workers import batches
from workers.batches import keep_going, run_batch
from workers.plan_folder import PlanFolder
from workers.runtime import Runtime
from workers.tasks import JobTask


class Worker(Runtime):
    """A bulk worker with a fake model that keeps what it would send."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, make_celery(settings), ["bulk"])
        self.__dict__["extractor"] = FakeExtractor()
        self.sent: list[tuple[str, ...]] = []

    def send(self, task: str, *args: str, after_seconds: float | None = None) -> None:
        self.sent.append((task, *args))

    def plan(self, size: int = 4) -> tuple[str, list[str]]:
        """Plans a job; gives its id and its batches."""
        job_id = self.jobs.create("photos").id
        self.planner().plan(job_id, size)
        return job_id, [args[2] for args in self.sent if args[:2] == (INDEX_BATCH, job_id)]

    @property
    def model(self) -> FakeExtractor:
        assert isinstance(self.extractor, FakeExtractor)
        return self.extractor


@pytest.fixture
def worker(settings: Settings, library: Path) -> Worker:
    for number in range(6):
        add_picture(library, f"{number}.jpg", seed=number)
    (library / "bad.jpg").write_bytes(b"no picture")
    return Worker(settings)


def outcome(job: IndexJob) -> tuple[str, int, int, int]:
    return job.state, job.total, job.done, job.failed


def test_a_job_runs_to_its_end(worker: Worker) -> None:
    job_id, names = worker.plan()
    assert len(names) == 2
    for name in names:
        run_batch(worker, job_id, name)
    assert outcome(worker.jobs.get(job_id)) == ("done", 7, 6, 1)
    assert [error.path for error in worker.jobs.errors(job_id)] == ["photos/bad.jpg"]
    store: FeatureStore = worker.store
    assert len(live(store)) == 6
    assert not (worker.settings.data_dir / "jobs" / job_id).exists()


def test_a_job_waits_for_as_long_as_the_disk_is_full(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, names = worker.plan()
    monkeypatch.setattr(storage, "MIN_FREE_BYTES", 1 << 60)
    worker.storage.problem(at_once=True)
    task = JobTask()
    monkeypatch.setattr("workers.tasks.runtime", lambda: worker)
    for _ in range(20):  # far more often than a task is tried again
        with pytest.raises(StorageFull) as failure:
            run_batch(worker, job_id, names[0])
        task.on_failure(failure.value, "", (job_id, names[0]), {}, None)
    assert worker.model.pictures == 0
    assert worker.jobs.get(job_id).state == "running"
    monkeypatch.setattr(storage, "MIN_FREE_BYTES", 0)
    for name in names:
        run_batch(worker, job_id, name)
    assert outcome(worker.jobs.get(job_id)) == ("done", 7, 6, 1)


def test_a_batch_that_is_delivered_again_does_nothing(worker: Worker) -> None:
    job_id, names = worker.plan()
    for name in [*names, *names]:
        run_batch(worker, job_id, name)
    assert outcome(worker.jobs.get(job_id)) == ("done", 7, 6, 1)
    assert worker.model.pictures == 6


def test_a_batch_of_an_unknown_job_or_an_older_plan_is_dropped(worker: Worker) -> None:
    job_id, names = worker.plan()
    run_batch(worker, "lost", names[0])
    worker.jobs.start_plan(job_id)
    run_batch(worker, job_id, names[0])
    assert worker.model.calls == []


def test_a_batch_of_a_cancelled_job_is_dropped(worker: Worker) -> None:
    job_id, names = worker.plan()
    worker.jobs.control(job_id, "cancelled")
    run_batch(worker, job_id, names[0])
    assert worker.model.calls == []
    keep_going(worker)
    assert worker.jobs.work.active_jobs() == []
    assert not (worker.settings.data_dir / "jobs" / job_id).exists()


def test_a_batch_of_a_paused_job_waits_for_resume(worker: Worker) -> None:
    job_id, names = worker.plan()
    worker.jobs.control(job_id, "paused")
    for name in names:
        run_batch(worker, job_id, name)
    assert worker.model.calls == []
    worker.jobs.control(job_id, "resumed")
    assert sorted(worker.jobs.work.hand_out(job_id, 10)) == names


def test_a_batch_that_ended_its_worker_is_split_until_the_guilty_file_is_alone(worker: Worker) -> None:
    job_id, _ = worker.plan(size=100)
    guilty, rounds = "photos/3.jpg", 0
    waiting = [args[2] for args in worker.sent if args[0] == INDEX_BATCH]
    while waiting:
        rounds += 1
        batch = waiting.pop(0)
        paths = PlanFolder(worker.settings.data_dir, job_id).read(batch) or []
        attempts = int(worker.redis.hget(f"imagesearch:job:{job_id}:attempts", batch) or 0)
        is_deadly = guilty in paths and not (attempts >= 1 and len(paths) > 1) and attempts < 3
        worker.sent.clear()
        if is_deadly:
            # What a worker that dies leaves behind: a lease that nobody renews.
            assert worker.jobs.work.claim(job_id, batch, "bulk@elsewhere:1")
            worker.jobs.work.expire(job_id, batch, "bulk@elsewhere:1")
            worker.redis.delete("imagesearch:keeper")
            keep_going(worker)
        else:
            run_batch(worker, job_id, batch)
        waiting += [args[2] for args in worker.sent if args[0] == INDEX_BATCH]
        assert rounds < 40
    assert outcome(worker.jobs.get(job_id)) == ("done", 7, 5, 2)
    errors = {error.path: error.error for error in worker.jobs.errors(job_id)}
    assert errors.keys() == {"photos/bad.jpg", guilty}
    assert "ended 3 workers" in errors[guilty]


def test_a_batch_held_by_a_living_worker_is_left_alone(worker: Worker) -> None:
    job_id, names = worker.plan()
    assert worker.jobs.work.claim(job_id, names[0], "bulk@elsewhere:1") == 1
    run_batch(worker, job_id, names[0])
    assert worker.model.calls == []
    worker.sent.clear()
    keep_going(worker)
    assert worker.sent == []


def test_what_a_dead_process_of_this_host_held_is_sent_again_at_once(worker: Worker) -> None:
    job_id, names = worker.plan()
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert worker.jobs.work.claim(job_id, names[0], f"bulk@{socket.gethostname()}:{ended.pid}") == 1
    worker.sent.clear()
    keep_going(worker)
    assert worker.sent == [(INDEX_BATCH, job_id, names[0])]


def test_a_failure_that_is_not_the_batch_s_fault_is_no_attempt(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, names = worker.plan()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for _ in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(worker.store, "publish", full)
            with pytest.raises(OSError, match="No space left"):
                run_batch(worker, job_id, names[0])
    for name in names:
        run_batch(worker, job_id, name)
    assert outcome(worker.jobs.get(job_id)) == ("done", 7, 6, 1)


def test_a_plan_that_is_gone_fails_the_job_with_advice(worker: Worker) -> None:
    job_id, names = worker.plan()
    PlanFolder(worker.settings.data_dir, job_id).remove(names[0])
    run_batch(worker, job_id, names[0])
    job = worker.jobs.get(job_id)
    assert job.state == "failed"
    assert "Index the folder again" in (job.error or "")


def test_a_job_that_leaves_many_segments_asks_for_a_compaction(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "COMPACT_FROM_SEGMENTS", 1)
    job_id, names = worker.plan()
    worker.sent.clear()
    for name in names:
        run_batch(worker, job_id, name)
    assert worker.sent == [(COMPACT,)]
