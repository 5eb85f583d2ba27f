"""One delivery of one batch, with a fake model and everything else real."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.celery_app import COMPACT, INDEX_BATCH, make_celery
from common.messages import IndexJob
from common.settings import Settings
from common.store import FeatureStore
from tests.fakes import FakeExtractor
from tests.unit.helpers import add_picture, live
from workers import batches
from workers.batches import run_batch
from workers.planning import PlanFolder
from workers.runtime import Runtime


class Worker(Runtime):
    """A bulk worker with a fake model that keeps what it would send."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, make_celery(settings), ["bulk"])
        self.__dict__["extractor"] = FakeExtractor()
        self.sent: list[tuple[str, ...]] = []

    def send(self, task: str, *args: str) -> None:
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
    assert PlanFolder(worker.settings.data_dir, job_id).read(names[0]) is None


def test_a_batch_of_a_paused_job_waits_for_resume(worker: Worker) -> None:
    job_id, names = worker.plan()
    worker.jobs.control(job_id, "paused")
    for name in names:
        run_batch(worker, job_id, name)
    assert worker.model.calls == []
    worker.jobs.control(job_id, "resumed")
    assert sorted(worker.jobs.take_parked(job_id)) == names


def test_a_batch_parked_while_its_job_is_resumed_is_sent_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, names = worker.plan()
    worker.jobs.control(job_id, "paused")
    worker.sent.clear()
    park = worker.jobs.park

    def resume_first(job: str, batch: str) -> None:
        worker.jobs.control(job, "resumed")
        park(job, batch)

    monkeypatch.setattr(worker.jobs, "park", resume_first)
    run_batch(worker, job_id, names[0])
    assert worker.sent == [(INDEX_BATCH, job_id, names[0])]


def test_a_plan_that_is_gone_fails_the_job_with_advice(worker: Worker) -> None:
    job_id, names = worker.plan()
    PlanFolder(worker.settings.data_dir, job_id).remove(names[0])
    run_batch(worker, job_id, names[0])
    job = worker.jobs.get(job_id)
    assert job.state == "failed"
    assert "Index the folder again" in (job.error or "")


def test_two_deliveries_of_a_batch_at_once_do_not_fail_the_job(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, names = worker.plan()
    read = PlanFolder.read

    def read_after_the_other_finished(folder: PlanFolder, batch: str) -> list[str] | None:
        monkeypatch.undo()
        run_batch(worker, job_id, batch)
        return read(folder, batch)

    monkeypatch.setattr(PlanFolder, "read", read_after_the_other_finished)
    for name in names:
        run_batch(worker, job_id, name)
    assert outcome(worker.jobs.get(job_id)) == ("done", 7, 6, 1)


def test_a_job_that_leaves_many_segments_asks_for_a_compaction(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "COMPACT_FROM_SEGMENTS", 1)
    job_id, names = worker.plan()
    worker.sent.clear()
    for name in names:
        run_batch(worker, job_id, name)
    assert worker.sent == [(COMPACT,)]
