"""How a worker process learns that it ends, and what it does with what it has not finished."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.celery_app import FIND_DUPLICATES, INDEX_BATCH, SCAN
from common.duplicates import DuplicateBoard
from common.settings import Settings
from common.worklist import SCAN_ITEM
from tests.fakes import FakeExtractor
from tests.unit.helpers import add_picture, start_python
from tests.unit.test_batches import Worker
from workers import duplicates
from workers.batches import start_scan
from workers.drain import StopLine, Unfinished
from workers.micro_batches import MicroBatcher

CUT_OFF = """
import os, sys, threading, time
from workers.drain import StopLine, Unfinished, end_in_time
line, unfinished = StopLine(), Unfinished()
child = os.fork()
if child == 0:
    line.leave_to_parent()
    end_in_time(line, unfinished, 0.2)
    with unfinished.item(lambda: print("given back", flush=True)):
        print("hangs", flush=True)
        time.sleep(600)
if sys.argv[1] == "pull":
    line.pull()
    line.pull()
    os.waitpid(child, 0)
"""


@pytest.fixture
def worker(settings: Settings, library: Path) -> Worker:
    for number in range(6):
        add_picture(library, f"{number}.jpg", seed=number)
    return Worker(settings)


@pytest.mark.parametrize("way", ["pull", "die"])
def test_a_forked_process_that_hangs_gives_its_work_back_and_ends(way: str) -> None:
    output, errors = start_python(CUT_OFF, way).communicate(timeout=60)
    assert output.split("\n") == ["hangs", "given back", ""], errors


def test_work_is_given_back_once_and_only_while_it_lasts() -> None:
    given: list[str] = []
    unfinished = Unfinished()

    def broken() -> None:
        raise OSError("Redis is away")

    with unfinished.item(lambda: given.append("done before")):
        pass
    with unfinished.item(broken), unfinished.item(lambda: given.append("cut off")):
        assert unfinished.give_back() == 2
        assert unfinished.give_back() == 0
    assert given == ["cut off"]


def test_the_line_may_be_pulled_again_and_again() -> None:
    line = StopLine()
    waiting = threading.Thread(target=line.wait)
    waiting.start()
    line.pull()
    line.pull()
    waiting.join(10)
    assert not waiting.is_alive()
    os.close(line._ear)


def test_a_batch_that_is_given_back_can_be_taken_at_once(worker: Worker) -> None:
    job_id, names = worker.plan()
    worker.sent.clear()
    with worker.leased(job_id, names[0]) as attempt:
        assert attempt == 1
        worker.finish(seconds=0)
        assert worker.jobs.work.holders(job_id) == {}
        # By another worker, and not as one that has ended its worker.
        assert worker.jobs.work.claim(job_id, names[0], "another") == 1
    assert worker.sent == [(INDEX_BATCH, job_id, names[0])]


def test_a_scan_may_end_and_is_given_back_if_it_does_not(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = worker.jobs.create("photos").id
    start_scan(worker, quick)
    worker.finish(seconds=60)
    assert worker.jobs.get(quick).total == 6
    assert worker.background == set()

    began, end = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        began.set()
        end.wait(60)

    monkeypatch.setattr("workers.batches._plan", hang)
    slow = worker.jobs.create("photos").id
    start_scan(worker, slow)
    assert began.wait(60)
    worker.sent.clear()
    worker.finish(seconds=0)
    end.set()
    assert worker.sent == [(SCAN, slow)]
    assert worker.jobs.work.claim(slow, SCAN_ITEM, "another") == 1


def test_a_search_for_duplicates_that_is_cut_off_begins_anew_elsewhere(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = DuplicateBoard(worker.redis, worker.settings.data_dir)
    job = board.create(0.9, None)

    def cut_off(*_: object, **__: object) -> list[object]:
        worker.finish(seconds=0)
        raise KeyboardInterrupt

    monkeypatch.setattr(duplicates, "find_groups", cut_off)
    with pytest.raises(KeyboardInterrupt):
        duplicates.run_duplicate_job(worker, job.id)
    assert worker.sent == [(FIND_DUPLICATES, job.id)]
    assert board.begin(job.id) is not None


def test_a_worker_that_still_warms_up_ends_after_the_pass_that_has_begun(worker: Worker) -> None:
    """A process that ends in the middle of a pass of TensorFlow crashes."""
    began, end = threading.Event(), threading.Event()

    class ColdExtractor(FakeExtractor):
        def warm_up_next(self) -> bool:
            began.set()
            end.wait(60)
            return True

    batcher = MicroBatcher(ColdExtractor())
    worker.__dict__["engine"] = SimpleNamespace(embedder=batcher)
    batcher.warm_up()
    assert began.wait(60)
    ending = threading.Thread(target=worker.finish, args=(60,))
    ending.start()
    ending.join(0.2)
    assert ending.is_alive()
    end.set()
    ending.join(20)
    assert not ending.is_alive()
    assert batcher._thread is None
