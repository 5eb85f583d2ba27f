"""What a worker holds while Redis takes nothing: it is renewed or given back later, and never counts as its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from common.celery_app import INDEX_BATCH
from common.settings import Settings
from tests.redis_troubles import full
from tests.unit.helpers import add_picture
from tests.unit.test_batches import Worker
from workers.batches import hand_out


@pytest.fixture
def worker(settings: Settings, library: Path) -> Worker:
    add_picture(library, "one.jpg", seed=1)
    return Worker(settings)


@contextmanager
def lost(worker: Worker, job_id: str, batch: str) -> Iterator[None]:
    """Redis is full, and has become so in the middle of a batch that has ended over it."""
    with ExitStack() as stack:
        with pytest.raises(redis.RedisError):
            _work(worker, job_id, batch, stack)
        yield


def _work(worker: Worker, job_id: str, batch: str, stack: ExitStack) -> None:
    with worker.leased(job_id, batch) as attempt:
        assert attempt == 1
        stack.enter_context(full(worker.redis))
        worker.redis.set("more", "than there is room for")


def test_what_could_not_be_given_back_is_later_and_counts_no_attempt(worker: Worker) -> None:
    job_id, (batch,) = worker.plan()
    worker.sent.clear()
    for _ in range(5):
        with lost(worker, job_id, batch):
            assert worker.jobs.work.holders(job_id) == {batch: worker.presence.name}
            with pytest.raises(redis.RedisError):
                worker.leases.look_after()
        worker.leases.look_after()
        assert worker.jobs.work.holders(job_id) == {}
    assert worker.sent == [(INDEX_BATCH, job_id, batch)] * 5
    with worker.leased(job_id, batch) as attempt:
        worker.leases.look_after()
        assert attempt == 1
        assert worker.jobs.work.holders(job_id) == {batch: worker.presence.name}


def test_what_comes_back_before_it_was_given_back_counts_no_attempt(worker: Worker) -> None:
    job_id, (batch,) = worker.plan()
    for _ in range(5):
        with lost(worker, job_id, batch):
            pass


def test_what_could_not_be_sent_is_sent_later(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, _ = worker.plan()
    worker.jobs.work.add(job_id, ["001-000002", "001-000003"])
    worker.sent.clear()

    def refuse(*_: object, **__: object) -> None:
        raise OperationalError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "send", refuse)
        with pytest.raises(OperationalError):
            hand_out(worker, job_id)
    worker.leases.look_after()
    worker.leases.look_after()
    assert sorted(worker.sent) == [(INDEX_BATCH, job_id, "001-000002"), (INDEX_BATCH, job_id, "001-000003")]
    assert worker.jobs.work.claim(job_id, "001-000003", "bulk@here:1") == 1


def test_a_claim_that_is_sent_again_counts_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, (batch,) = worker.plan()
    monkeypatch.setattr("common.worklist.time.time", lambda: 1000.0)
    assert [worker.jobs.work.claim(job_id, batch, "bulk@here:1") for _ in range(3)] == [1, 1, 1]
    assert worker.jobs.work.claim(job_id, batch, "bulk@there:1") == 0


def test_counts_that_are_sent_again_are_added_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = worker.jobs.create("photos").id
    monkeypatch.setattr("common.progress.secrets.token_hex", lambda _: "the same call")
    assert [worker.jobs.add(job_id, {"found": 5}) for _ in range(3)] == [True] * 3
    monkeypatch.setattr("common.progress.secrets.token_hex", lambda _: "another call")
    assert worker.jobs.add(job_id, {"found": 2})
    assert worker.jobs.get(job_id).found == 7
