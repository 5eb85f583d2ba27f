from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import redis

from common import progress
from common.errors import JobStateConflict, UnknownJob
from common.messages import IndexJob
from common.progress import JobBoard, new_job_id


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def board(client: redis.Redis) -> JobBoard:
    return JobBoard(client)


def planned(board: JobBoard, total: int = 30, **counts: int) -> tuple[str, int]:
    """A job whose scan found `total` new files. Gives its id and plan."""
    job = board.create("photos/2020")
    plan = board.start_plan(job.id)
    board.add(job.id, {"found": total, "total": total, **counts}, plan=plan)
    return job.id, plan


def running(board: JobBoard, total: int = 30) -> tuple[str, int]:
    job_id, plan = planned(board, total)
    board.finish_scan(job_id, plan)
    return job_id, plan


def finish(
    board: JobBoard, job_id: str, plan: int, batch: str, done: int, failed: int = 0, duplicates: int = 0
) -> bool:
    errors = {f"photos/{batch}-{number}.jpg": "broken" for number in range(failed)}
    return board.finish_batch(job_id, plan, batch, done=done, failed=errors, duplicates=duplicates)


def counts(job: IndexJob) -> tuple[int, int, int, int]:
    return job.total, job.done, job.failed, job.duplicates


# --- the life of a job -------------------------------------------------------------------------------------------


def test_a_new_job_is_scanning(board: JobBoard) -> None:
    job = board.create("photos/2020")
    assert (job.folder, job.state, job.found, job.total) == ("photos/2020", "scanning", 0, 0)
    assert job.finished_at is None
    assert job.rate is None
    assert job.eta_seconds is None
    assert board.get(job.id) == job


def test_ids_differ_and_sort_by_time() -> None:
    ids = [new_job_id() for _ in range(20)]
    assert len(set(ids)) == 20
    assert [text[:15] for text in ids] == sorted(text[:15] for text in ids)


def test_an_unknown_job_is_an_error(board: JobBoard) -> None:
    for call in (board.get, board.errors, lambda job_id: board.control(job_id, "paused")):
        with pytest.raises(UnknownJob, match="nothing"):
            call("nothing")
    assert board.current_plan("nothing") is None


@pytest.mark.parametrize("order", list(itertools.permutations(["scan", "batch 1", "batch 2"])))
def test_a_job_ends_when_the_scan_is_complete_and_every_file_is_through(board: JobBoard, order: list[str]) -> None:
    job_id, plan = planned(board, total=5)
    steps = {
        "scan": lambda: board.finish_scan(job_id, plan),
        "batch 1": lambda: finish(board, job_id, plan, "001-000001", done=2, failed=1),
        "batch 2": lambda: finish(board, job_id, plan, "001-000002", done=2),
    }
    *first, last = order
    for step in first:
        assert not steps[step]()
        assert board.get(job_id).state in {"scanning", "running"}
    assert steps[last]()
    job = board.get(job_id)
    assert (job.state, job.done, job.failed) == ("done", 4, 1)
    assert job.finished_at is not None
    assert job.finished_at >= job.started_at


def test_a_job_with_nothing_to_do_ends_with_its_scan(board: JobBoard) -> None:
    job_id, plan = planned(board, total=0, unchanged=9)
    assert board.finish_scan(job_id, plan)
    assert board.get(job_id).state == "done"


def test_failed_files_of_the_scan_count(board: JobBoard) -> None:
    job_id, plan = planned(board, total=3)
    board.add(job_id, {"found": 1, "total": 1, "failed": 1}, {"photos/link.jpg": "points out"})
    board.finish_scan(job_id, plan)
    assert finish(board, job_id, plan, "001-000001", done=3)
    assert counts(board.get(job_id)) == (4, 3, 1, 0)


def test_the_latest_jobs_come_first(board: JobBoard, client: redis.Redis) -> None:
    ids = [board.create(f"photos/{number}").id for number in range(4)]
    assert [job.id for job in board.latest()] == ids[::-1]
    assert [job.id for job in board.latest(limit=2)] == ids[:1:-1]
    client.delete(f"imagesearch:job:{ids[2]}")  # expired
    assert [job.id for job in board.latest()] == [ids[3], ids[1], ids[0]]
    assert client.zcard("imagesearch:jobs") == 3


def test_the_latest_jobs_are_as_each_is_by_itself(board: JobBoard) -> None:
    done, plan = planned(board, total=3)
    board.finish_scan(done, plan)
    finish(board, done, plan, "001-000001", done=3)
    working, _ = running(board, total=9)
    board.report_partial(working, "001-000001", 4)
    paused, _ = running(board, total=2)
    board.control(paused, "paused")
    cancelled, _ = running(board, total=2)
    board.control(cancelled, "cancelled")
    latest = board.latest()
    assert {job.id: job.state for job in latest} == {
        cancelled: "cancelled", paused: "paused", working: "running", done: "done",
    }  # fmt: skip
    assert latest == [board.get(job.id) for job in latest]
    assert board.get(working).done == 4


def test_an_ended_job_expires_with_all_its_keys(board: JobBoard, client: redis.Redis) -> None:
    job_id, plan = running(board, total=2)
    board.report_partial(job_id, "001-000001", 1)
    finish(board, job_id, plan, "001-000001", done=1, failed=1)
    board.work.end(job_id)
    keys = list(client.scan_iter(f"imagesearch:job:{job_id}*"))
    assert keys
    assert all(0 < client.ttl(name) <= progress.KEEP_FINISHED_SECONDS for name in keys)


# --- redelivery --------------------------------------------------------------------------------------------------


def test_a_batch_counts_once_however_often_it_is_delivered(board: JobBoard) -> None:
    job_id, plan = running(board)
    for _ in range(3):
        assert not finish(board, job_id, plan, "001-000001", done=10, failed=2, duplicates=4)
    assert counts(board.get(job_id)) == (30, 10, 2, 4)
    assert board.batch_is_finished(job_id, "001-000001")
    assert not board.batch_is_finished(job_id, "001-000002")


def test_a_batch_that_ended_the_job_ends_it_once(board: JobBoard) -> None:
    job_id, plan = running(board, total=5)
    assert finish(board, job_id, plan, "001-000001", done=5)
    assert not finish(board, job_id, plan, "001-000001", done=5)
    assert not board.finish_scan(job_id, plan)
    assert counts(board.get(job_id)) == (5, 5, 0, 0)


def test_a_new_plan_starts_again_from_zero(board: JobBoard) -> None:
    job_id, plan = planned(board, total=30, unchanged=4)
    finish(board, job_id, plan, "001-000001", done=3, failed=2, duplicates=1)
    board.report_partial(job_id, "001-000002", 9)
    board.work.add(job_id, ["001-000003"])
    assert board.start_plan(job_id) == board.current_plan(job_id) == plan + 1
    job = board.get(job_id)
    assert counts(job) == (0, 0, 0, 0)
    assert (job.found, job.unchanged, job.state) == (0, 0, "scanning")
    assert board.errors(job_id) == []
    assert board.work.hand_out(job_id, 10) == []


def test_what_an_older_plan_does_no_longer_counts(board: JobBoard) -> None:
    job_id, old = planned(board)
    new = board.start_plan(job_id)
    assert board.add(job_id, {"found": 4, "total": 4}, plan=new)
    assert not board.add(job_id, {"found": 100, "total": 100}, {"photos/a.jpg": "old"}, plan=old)
    assert not finish(board, job_id, old, "001-000001", done=30)
    assert not board.finish_scan(job_id, old)
    assert counts(board.get(job_id)) == (4, 0, 0, 0)
    assert board.errors(job_id) == []
    board.finish_scan(job_id, new)
    assert finish(board, job_id, new, "002-000001", done=4)


def test_the_sequence_of_a_job_is_the_first_one_proposed(board: JobBoard) -> None:
    job_id = board.create("photos").id
    assert board.sequence(job_id, 17) == 17
    board.start_plan(job_id)
    assert board.sequence(job_id, 99) == 17


# --- what is shown -----------------------------------------------------------------------------------------------


def test_running_batches_are_shown_but_never_count_twice(board: JobBoard) -> None:
    job_id, plan = running(board)
    board.report_partial(job_id, "001-000001", 4)
    board.report_partial(job_id, "001-000002", 3)
    board.report_partial(job_id, "001-000001", 8)
    assert board.get(job_id).done == 11
    finish(board, job_id, plan, "001-000001", done=8, failed=2)
    assert counts(board.get(job_id)) == (30, 11, 2, 0)


def test_done_and_failed_never_exceed_total(board: JobBoard) -> None:
    job_id, plan = running(board, total=10)
    finish(board, job_id, plan, "001-000001", done=4, failed=2)
    board.report_partial(job_id, "001-000002", 50)
    job = board.get(job_id)
    assert job.done + job.failed == 10


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("common.progress.time.time", lambda: 1_700_000_000 + seconds)


def test_rate_and_remaining_time_follow_the_last_minute(board: JobBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 0)
    job_id, _ = running(board, total=1000)
    for second in range(0, 101, 10):
        at(monkeypatch, second)
        # 1 a second for 40 s, then 4 a second.
        board.report_partial(job_id, "001-000001", second if second <= 40 else 40 + 4 * (second - 40))
    job = board.get(job_id)
    assert job.done == 280
    assert job.rate == pytest.approx(4.0)
    assert job.eta_seconds == pytest.approx(720 / 4)


def test_the_estimated_end_is_right_after_a_tenth(board: JobBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers that begin half a batch apart, 20 files in 0.6 s each, and parts of batches told between."""
    at(monkeypatch, 0)
    job_id, plan = running(board, total=1000)
    estimates = {}
    for step in range(1, 101):  # of 0.15 s
        at(monkeypatch, now := 0.15 * step)
        for worker in (0, 1):
            batch, quarter = divmod(step - 1 - 2 * worker, 4)
            name = f"001-{2 * batch + worker:06}"
            if quarter == 3:
                finish(board, job_id, plan, name, done=20)
            elif batch >= 0:
                board.report_partial(job_id, name, 5 * (quarter + 1))
        job = board.get(job_id)
        if job.done >= 100 and job.eta_seconds is not None:
            estimates[now] = job.eta_seconds
    first = min(estimates)
    end = 15.3  # 1,000 files at 40 in 0.6 s, and the second worker's late start
    assert first < 2.1
    assert {now: end - now for now in estimates} == pytest.approx(estimates, rel=0.25, abs=0.5)


def test_there_is_no_rate_before_anything_is_known(board: JobBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 0)
    job_id, _ = running(board)
    assert board.get(job_id).rate is None
    board.report_partial(job_id, "001-000001", 1)
    assert board.get(job_id).rate is None
    at(monkeypatch, 0.1)
    board.report_partial(job_id, "001-000001", 2)
    assert (board.get(job_id).rate, board.get(job_id).eta_seconds) == (None, None)


def test_only_a_running_job_has_a_rate(board: JobBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 0)
    job_id, plan = running(board, total=20)
    for second in (1, 2, 3):
        at(monkeypatch, second)
        board.report_partial(job_id, "001-000001", second)
    assert board.get(job_id).rate == pytest.approx(1)
    assert board.control(job_id, "paused").rate is None
    board.control(job_id, "resumed")
    finish(board, job_id, plan, "001-000001", done=20)
    assert (board.get(job_id).rate, board.get(job_id).eta_seconds) == (None, None)


def test_errors_are_listed_by_path(board: JobBoard) -> None:
    job_id, plan = running(board)
    failed = {"photos/ü.jpg": "empty", "photos/b.jpg": "damaged: é", "photos/a/z.jpg": "too large"}
    board.finish_batch(job_id, plan, "001-000001", done=0, failed=failed, duplicates=0)
    assert [(error.path, error.error) for error in board.errors(job_id)] == sorted(failed.items())


# --- pause, resume, cancel, fail ---------------------------------------------------------------------------------


def test_a_paused_job_gives_out_its_batches_when_it_is_resumed(board: JobBoard) -> None:
    job_id, _ = running(board)
    board.work.add(job_id, ["001-000001", "001-000002"])
    assert board.control(job_id, "paused").state == "paused"
    assert board.work.hand_out(job_id, 10) == []
    assert board.control(job_id, "resumed").state == "running"
    assert board.work.hand_out(job_id, 10) == ["001-000001", "001-000002"]
    assert board.work.hand_out(job_id, 10) == []


def test_a_job_paused_while_it_is_scanned_stays_paused(board: JobBoard) -> None:
    job_id, plan = planned(board)
    board.control(job_id, "paused")
    assert not board.finish_scan(job_id, plan)
    assert board.get(job_id).state == "paused"
    assert board.control(job_id, "resumed").state == "running"


def test_a_paused_job_whose_last_batch_was_running_ends(board: JobBoard) -> None:
    job_id, plan = running(board, total=5)
    board.control(job_id, "paused")
    assert finish(board, job_id, plan, "001-000001", done=5)
    assert board.get(job_id).state == "done"


def test_a_cancelled_job_stays_cancelled(board: JobBoard) -> None:
    job_id, plan = planned(board)
    job = board.control(job_id, "cancelled")
    assert job.state == "cancelled"
    assert job.finished_at is not None
    assert not board.finish_scan(job_id, plan)
    finish(board, job_id, plan, "001-000001", done=30)
    assert board.get(job_id).state == "cancelled"


def test_a_failed_job_says_why_and_ends_once(board: JobBoard) -> None:
    job_id, _ = running(board)
    board.fail(job_id, "the disk is full")
    board.fail(job_id, "another reason")
    job = board.get(job_id)
    assert (job.state, job.error) == ("failed", "the disk is full")
    assert job.finished_at is not None


@pytest.mark.parametrize("ending", ["done", "cancelled", "failed"])
@pytest.mark.parametrize("action", ["paused", "resumed", "cancelled"])
def test_an_ended_job_cannot_be_changed(board: JobBoard, ending: str, action: str) -> None:
    job_id, plan = running(board, total=1)
    if ending == "done":
        finish(board, job_id, plan, "001-000001", done=1)
    elif ending == "cancelled":
        board.control(job_id, "cancelled")
    else:
        board.fail(job_id, "why")
    with pytest.raises(JobStateConflict, match=f"is {ending}: it cannot be {action}"):
        board.control(job_id, action)
    board.fail(job_id, "too late")
    assert board.get(job_id).state == ending


def test_a_job_that_is_not_paused_cannot_be_resumed(board: JobBoard) -> None:
    job_id, _ = running(board)
    with pytest.raises(JobStateConflict, match="is running: it cannot be resumed"):
        board.control(job_id, "resumed")
    board.control(job_id, "paused")
    assert board.control(job_id, "paused").state == "paused"
