"""Who may work on what, on a real Redis."""

from __future__ import annotations

import time

import pytest

from common.progress import JobBoard
from common.redis_client import connect
from common.settings import Settings
from common.worklist import SCAN_ITEM, WorkList

BATCHES = [f"001-{number:06}" for number in range(1, 8)]


@pytest.fixture
def board(settings: Settings) -> JobBoard:
    return JobBoard(connect(settings))


@pytest.fixture
def job(board: JobBoard) -> str:
    """A job whose scan is over and whose batches wait."""
    job_id = board.create("photos").id
    assert board.work.claim(job_id, SCAN_ITEM, "scanner") == 1
    board.add(job_id, {"total": 100}, plan=board.start_plan(job_id))
    board.work.close(job_id, SCAN_ITEM)
    board.work.add(job_id, BATCHES)
    return job_id


@pytest.fixture
def work(board: JobBoard) -> WorkList:
    return board.work


def test_only_a_few_batches_of_a_job_are_under_way(work: WorkList, job: str) -> None:
    assert work.hand_out(job, 3) == BATCHES[:3]
    assert work.hand_out(job, 3) == []
    work.claim(job, BATCHES[1], "a")
    assert work.hand_out(job, 3) == []
    work.close(job, BATCHES[1])
    assert work.hand_out(job, 3) == [BATCHES[3]]


def test_the_scan_takes_no_place_of_a_batch(board: JobBoard) -> None:
    job_id = board.create("photos").id
    board.work.add(job_id, BATCHES)
    assert board.work.hand_out(job_id, 2) == BATCHES[:2]


def test_a_batch_is_held_by_one_worker_at_a_time(work: WorkList, job: str) -> None:
    work.hand_out(job, 2)
    assert work.claim(job, BATCHES[0], "a") == 1
    assert work.claim(job, BATCHES[0], "b") == 0
    assert work.holders(job) == {BATCHES[0]: "a"}
    work.close(job, BATCHES[0])
    assert work.claim(job, BATCHES[0], "b") == 0
    assert work.claim(job, BATCHES[6], "b") == 0, "it was not handed out"


def test_a_lease_that_is_not_renewed_runs_out(board: JobBoard, job: str) -> None:
    work = WorkList(board._redis, lease_seconds=0.3)
    work.hand_out(job, 1)
    assert work.claim(job, BATCHES[0], "a") == 1
    deadline = time.monotonic() + 10
    while not work.overdue(job, queue_is_empty=False):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert work.overdue(job, queue_is_empty=False) == [], "it is sent again once"
    assert work.claim(job, BATCHES[0], "b") == 2
    work.renew(job, BATCHES[0], "a")
    assert work.holders(job) == {BATCHES[0]: "b"}, "who lost its lease cannot renew it"


def test_a_renewed_lease_holds(board: JobBoard, job: str) -> None:
    work = WorkList(board._redis, lease_seconds=0.5)
    work.hand_out(job, 1)
    work.claim(job, BATCHES[0], "a")
    for _ in range(8):
        time.sleep(0.1)
        work.renew(job, BATCHES[0], "a")
        assert work.overdue(job, queue_is_empty=True) == []
    assert work.claim(job, BATCHES[0], "b") == 0


def test_what_is_given_back_can_be_taken_and_is_no_attempt(work: WorkList, job: str) -> None:
    work.hand_out(job, 1)
    assert work.claim(job, BATCHES[0], "a") == 1
    work.release(job, BATCHES[0], "b")
    assert work.holders(job) == {BATCHES[0]: "a"}, "only its holder can give it back"
    work.release(job, BATCHES[0], "a")
    assert work.claim(job, BATCHES[0], "b") == 1


def test_a_message_that_got_lost_is_sent_again(work: WorkList, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work.hand_out(job, 2)
    assert work.overdue(job, queue_is_empty=True) == []
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert work.overdue(job, queue_is_empty=False) == []
    assert sorted(work.overdue(job, queue_is_empty=True)) == BATCHES[:2]


def test_a_batch_that_comes_while_its_job_is_paused_goes_back_to_the_front(board: JobBoard, job: str) -> None:
    board.work.hand_out(job, 1)
    board.control(job, "paused")
    assert board.work.claim(job, BATCHES[0], "a") == 0
    assert board.work.hand_out(job, 3) == []
    board.control(job, "resumed")
    assert board.work.hand_out(job, 3) == BATCHES[:3]


def test_the_scan_of_a_paused_job_goes_on(board: JobBoard) -> None:
    job_id = board.create("photos").id
    board.control(job_id, "paused")
    assert board.work.claim(job_id, SCAN_ITEM, "a") == 1


def test_nothing_of_an_ended_job_is_handed_out(board: JobBoard, job: str) -> None:
    board.work.hand_out(job, 1)
    board.control(job, "cancelled")
    assert board.work.claim(job, BATCHES[0], "a") == 0
    assert board.work.hand_out(job, 5) == []
    assert board.work.active_jobs() == [job]
    board.work.end(job)
    assert board.work.active_jobs() == []


def test_a_new_plan_forgets_the_batches_but_not_the_scan(board: JobBoard, job: str) -> None:
    board.work.open_scan(job)
    board.work.claim(job, SCAN_ITEM, "a")
    board.work.hand_out(job, 2)
    board.work.clear_batches(job)
    assert board.work.hand_out(job, 10) == []
    assert board.work.claim(job, BATCHES[0], "b") == 0
    assert board.work.holders(job) == {SCAN_ITEM: "a"}
