"""Who answers the command line in its tests: workers that report, and play one task."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from common.duplicates import DuplicateBoard, DuplicateGroup, DuplicateImage
from common.jobs import Client
from common.messages import SearchHit, SearchResult
from common.presence import PresenceReporter
from common.searches import SearchBoard, TakenSearch
from common.settings import Settings
from common.store import image_id
from tests.fakes import FAKE_SPEC

SPEC = FAKE_SPEC.model_copy(update={"architecture": "toy", "layer": "out", "dimension": 4, "trained": False})
HIT = SearchHit(
    image_id=image_id("photos/a b.jpg"),
    path="photos/a b.jpg",
    width=8,
    height=8,
    rank=1,
    score=0.9876543,
    distance=0.157,
)
# The end of every wait of a player: a test that has gone wrong must not hang.
_PATIENCE_SECONDS = 30


@contextmanager
def worker(client: Client, *queues: str, **facts: Any) -> Iterator[None]:
    """A worker that reports and does nothing else."""
    reporter = PresenceReporter(client.redis, list(queues), lambda: {"state": "idle"} | facts)
    reporter.report()
    yield
    reporter.stop()


def json_of(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was printed, which must be one JSON document."""
    return json.loads(capsys.readouterr().out)


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Does something in a thread of its own while the block runs, and waits for its end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(_PATIENCE_SECONDS)


def awaited(find: Callable[[], Any]) -> Any:
    """What `find` finds, as soon as it finds something."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (found := find()):
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.02)
    return found


@contextmanager
def answer(
    client: Client, *, error: str | None = None, hits: Sequence[SearchHit] = (HIT,), **fields: Any
) -> Iterator[list[TakenSearch]]:
    """Plays the query worker for one search. Gives a list that will hold what was searched for."""
    taken: list[TakenSearch] = []

    def work() -> None:
        searches = SearchBoard(client.redis, ttl_seconds=60, timeout_seconds=60)
        key = awaited(lambda: client.redis.keys("imagesearch:search:*:open"))[0]
        search = searches.take(key.decode().split(":")[2])
        assert search is not None
        taken.append(search)
        outcome: dict[str, Any] = {"state": "done", "results": list(hits), "trained": False, "indexed": 1234} | fields
        if error:
            outcome = {"state": "failed", "error": error}
        searches.finish(search.record, SearchResult.model_validate(search.record.result.model_dump() | outcome))

    with worker(client, "query"), meanwhile(work):
        yield taken


@contextmanager
def duplicates_found(settings: Settings, client: Client, *, error: str | None = None, count: int = 1) -> Iterator[None]:
    """Plays the maintenance worker for one search for duplicates."""
    images = [
        DuplicateImage(image_id="x", path=f"photos/{name}.jpg", width=8, height=6, size=1234) for name in ("a", "b c")
    ]

    def job_key() -> bytes | None:
        keys: list[bytes] = client.redis.keys("imagesearch:duplicates:*")  # type: ignore[assignment]
        return next((key for key in keys if not key.endswith(b":alive")), None)

    def work() -> None:
        board = DuplicateBoard(client.redis, settings.data_dir)
        job = board.begin(awaited(job_key).decode().split(":")[2])
        assert job is not None
        board.report(job, 0, 1500)
        if error:
            board.fail(job, error)
        else:
            board.finish(job, [DuplicateGroup(images=images, lowest_score=0.98765, best_score=1)] * count)

    with worker(client, "bulk", "maintenance"), meanwhile(work):
        yield
