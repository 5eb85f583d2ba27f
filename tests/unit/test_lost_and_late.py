"""What the fault tests have shown: work that comes late, twice, or for a job that Redis has lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from common.celery_app import SCAN
from common.errors import UnknownJob
from common.settings import Settings
from common.store import Tombstone, segment
from common.worklist import SCAN_ITEM
from tests.unit.helpers import add_picture
from tests.unit.test_batches import Worker
from workers import batches, tasks
from workers.batches import MAX_SCANS, run_batch
from workers.plan_folder import PlanFolder


@pytest.fixture
def worker(settings: Settings, library: Path) -> Worker:
    for number in range(6):
        add_picture(library, f"{number}.jpg", seed=number)
    return Worker(settings)


def test_of_a_split_and_a_late_end_of_the_same_batch_one_counts(worker: Worker) -> None:
    job_id, (first, second) = worker.plan(size=3)
    worker.jobs.split_batch(job_id, 1, first, [f"{first}-0"])
    worker.jobs.finish_batch(job_id, 1, first, done=3, failed={}, duplicates=0)
    assert worker.jobs.get(job_id).done == 0
    worker.jobs.finish_batch(job_id, 1, second, done=3, failed={}, duplicates=0)
    worker.jobs.split_batch(job_id, 1, second, [f"{second}-0"])
    worker.jobs.split_batch(job_id, 0, "000-000001", ["of an older plan"])
    assert worker.jobs.get(job_id).done == 3
    assert worker.jobs.work.hand_out(job_id, 10) == [f"{first}-0"]


def test_what_comes_late_for_a_lost_job_does_not_bring_half_of_it_back(worker: Worker) -> None:
    job_id, _ = worker.plan()
    worker.redis.flushall()
    with pytest.raises(UnknownJob):
        worker.jobs.start_plan(job_id)
    with pytest.raises(UnknownJob):
        worker.jobs.sequence(job_id, 1)
    worker.jobs.fail(job_id, "too late")
    worker.jobs.split_batch(job_id, 1, "001-000001", ["001-000001-0"])
    worker.jobs.report_partial(job_id, "001-000001", 3)
    assert worker.redis.keys() == []


def test_a_job_that_was_cancelled_meanwhile_is_not_planned(worker: Worker) -> None:
    job_id = worker.jobs.create("photos").id
    worker.jobs.control(job_id, "cancelled")
    assert worker.jobs.start_plan(job_id) is None
    assert worker.jobs.get(job_id).state == "cancelled"


def test_a_batch_whose_end_redis_has_forgotten_leads_to_another_scan(worker: Worker) -> None:
    job_id, names = worker.plan(size=3)
    worker.jobs.work.close(job_id, SCAN_ITEM)
    PlanFolder(worker.settings.data_dir, job_id).remove(names[0])
    run_batch(worker, job_id, names[0])
    assert (SCAN, job_id) in worker.sent
    worker.sent.clear()
    assert not worker.planner().plan(job_id, 100)
    batches.hand_out(worker, job_id)
    for _, _, name in list(worker.sent):
        run_batch(worker, job_id, name)
    job = worker.jobs.get(job_id)
    assert (job.state, job.total, job.done) == ("done", 6, 6)


def test_a_scan_that_ends_every_worker_is_given_up(worker: Worker) -> None:
    job_id = worker.jobs.create("photos").id
    for number in range(MAX_SCANS):
        assert worker.jobs.work.claim(job_id, SCAN_ITEM, f"bulk@elsewhere:{number}")
        worker.jobs.work.expire(job_id, SCAN_ITEM, f"bulk@elsewhere:{number}")
    batches._scan(worker, job_id)
    job = worker.jobs.get(job_id)
    assert (job.state, job.error) == ("failed", f"The scan ended {MAX_SCANS} workers; it was given up.")


def test_a_process_does_not_take_twice_what_it_holds(worker: Worker) -> None:
    job_id = worker.jobs.create("photos").id
    with worker.leased(job_id, SCAN_ITEM) as first, worker.leased(job_id, SCAN_ITEM) as second:
        assert (first, second) == (1, 0)


def test_after_an_outage_the_others_renew_their_leases_first(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Worker] = []
    monkeypatch.setattr(batches, "keep_going", looks.append)
    worker._state = {"state": "idle"}
    worker._tick(None)
    assert len(looks) == 1
    worker._last_tick -= 60
    worker._tick(None)
    worker._tick(None)
    assert len(looks) == 1
    worker._quiet_until = 0
    worker._tick(None)
    assert len(looks) == 2


def test_a_job_does_not_fail_because_redis_was_away_or_full(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, _ = worker.plan()
    monkeypatch.setattr(tasks, "runtime", lambda: worker)
    full = redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
    for away in (redis.ConnectionError("refused"), OperationalError("refused"), full):
        tasks.index_batch.on_failure(away, "task", [job_id, "001-000001"], {}, None)
        assert worker.jobs.get(job_id).state == "running"
    tasks.index_batch.on_failure(ValueError("a mistake"), "task", [job_id, "001-000001"], {}, None)
    job = worker.jobs.get(job_id)
    assert job.state == "failed"
    assert "a mistake" in (job.error or "")


def test_what_hdf5_raises_on_a_full_disk_is_an_error_of_the_disk(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise RuntimeError("Can't destroy cache (slist already enabled?)")

    monkeypatch.setattr(segment, "_write", full)
    with pytest.raises(OSError, match="cannot be written: Can't destroy cache"):
        worker.store.publish("first", precision="none", tombstones=[Tombstone("photos/0.jpg", 1)])
    assert list(worker.store.segments_path.iterdir()) == []


def test_a_segment_that_goes_while_it_is_opened_is_gone_and_not_damaged(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.store.publish("first", precision="none", tombstones=[Tombstone("photos/0.jpg", 1)])
    path = worker.store.segments_path / "first.h5"

    def compacted(*_: object, **__: object) -> None:
        path.unlink()
        raise OSError("Unable to synchronously open file (can't retrieve stat info for file)")

    monkeypatch.setattr(segment.h5py, "File", compacted)
    with pytest.raises(FileNotFoundError):
        segment.Segment(path)
