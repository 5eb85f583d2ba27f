"""Jobs that look for near-duplicates: their state, their file, and what a worker does for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import redis

from common import duplicates
from common.duplicates import DuplicateBoard, DuplicateGroup, DuplicateImage, DuplicateJob
from common.errors import InvalidCursor, ModelNotReady, UnknownDuplicateJob
from common.ranking.duplicates import Group, find_groups
from common.redis_client import NAMESPACE
from common.settings import Settings
from common.store import FeatureStore, image_id
from tests.unit.helpers import make_store, publish, record
from workers.drain import Unfinished
from workers.duplicates import described, run_duplicate_job


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def board(client: redis.Redis, tmp_path: Path) -> DuplicateBoard:
    return DuplicateBoard(client, tmp_path)


def group(number: int) -> DuplicateGroup:
    images = [
        DuplicateImage(image_id=f"{number:032}", path=f"photos/{side}ü{number}.jpg", width=4, height=3, size=9)
        for side in "ab"
    ]
    return DuplicateGroup(images=images, lowest_score=0.98, best_score=0.99)


def begun(board: DuplicateBoard) -> DuplicateJob:
    job = board.begin(board.create(0.97, None).id)
    assert job is not None
    return job


# --- the board ---------------------------------------------------------------------------------------------------


def test_a_job_goes_from_queued_over_running_to_done(board: DuplicateBoard) -> None:
    created = board.create(0.9, "photos/a")
    assert board.get(created.id) == created
    assert (created.state, created.min_score, created.folder) == ("queued", 0.9, "photos/a")
    job = board.begin(created.id)
    assert job is not None
    board.report(job, 0, 40)
    assert (board.get(job.id).state, board.get(job.id).done, board.get(job.id).total) == ("running", 0, 40)
    board.report(job, 40, 40)
    board.finish(job, [group(1), group(2)])
    done = board.get(job.id)
    assert (done.state, done.done, done.total, done.found_groups, done.found_images) == ("done", 40, 40, 2, 4)
    assert done.finished_at is not None
    assert done.finished_at >= done.started_at


def test_the_latest_jobs_are_those_whose_groups_are_kept(
    board: DuplicateBoard, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    monkeypatch.setattr(duplicates, "new_job_id", lambda: f"20250131-0945{next(numbers):02}-000000")
    assert board.latest() == []
    jobs = []
    for number in range(22):
        jobs.append(begun(board))
        board.finish(jobs[-1], [group(number)])
    latest = board.latest()
    assert [job.id for job in latest] == [job.id for job in reversed(jobs[2:])]
    assert all(board.page(job.id, None, 1).groups for job in latest)
    client.delete(f"{NAMESPACE}:duplicates:{jobs[5].id}")  # expired
    assert [job.id for job in board.latest()] == [job.id for job in latest if job.id != jobs[5].id]


def test_a_listed_job_whose_worker_is_gone_has_failed(board: DuplicateBoard, client: redis.Redis) -> None:
    job = begun(board)
    assert board.latest()[0].state == "running"
    client.delete(f"{NAMESPACE}:duplicates:{job.id}:alive")
    assert board.latest()[0].state == "failed"


def test_progress_is_not_stored_too_often(board: DuplicateBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    job = begun(board)
    now = 1000.0
    monkeypatch.setattr(duplicates.time, "monotonic", lambda: now)
    board.report(job, 0, 40)
    board.report(job, 5, 40)
    assert board.get(job.id).done == 0
    now += 1
    board.report(job, 10, 40)
    assert board.get(job.id).done == 10


def test_groups_are_read_page_by_page(board: DuplicateBoard) -> None:
    job = begun(board)
    assert board.page(job.id, None, 3).groups == []
    groups = [group(number) for number in range(7)]
    board.finish(job, groups)
    found: list[DuplicateGroup] = []
    cursor, sizes = None, []
    while True:
        page = board.page(job.id, cursor, 3)
        found += page.groups
        sizes.append(len(page.groups))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert (found, sizes) == (groups, [3, 3, 1])
    assert board.page(job.id, None, 7).next_cursor is None


@pytest.mark.parametrize("cursor", ["1", "x", "-1", "²", "9" * 15, "9" * 40])
def test_a_cursor_that_is_none_is_refused(board: DuplicateBoard, cursor: str) -> None:
    job = begun(board)
    board.finish(job, [group(1), group(2)])
    with pytest.raises(InvalidCursor):
        board.page(job.id, cursor, 3)


def test_a_job_whose_worker_is_gone_reads_as_failed(board: DuplicateBoard, client: redis.Redis) -> None:
    job = begun(board)
    client.delete(f"{NAMESPACE}:duplicates:{job.id}:alive")
    assert (board.get(job.id).state, board.get(job.id).error) == ("failed", "Its worker has ended: start it again.")


def test_only_the_latest_files_are_kept(board: DuplicateBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_KEPT", 2)
    jobs = []
    for number in range(3):
        monkeypatch.setattr(duplicates, "new_job_id", lambda number=number: f"2025010{number}")
        jobs.append(begun(board))
        board.finish(jobs[-1], [group(number)])
    with pytest.raises(UnknownDuplicateJob):
        board.page(jobs[0].id, None, 3)
    assert board.page(jobs[1].id, None, 3).groups == [group(1)]


def test_an_unknown_job_is_an_error_and_everything_expires(board: DuplicateBoard, client: redis.Redis) -> None:
    with pytest.raises(UnknownDuplicateJob):
        board.get("unknown")
    assert board.begin("unknown") is None
    board.finish(begun(board), [])
    assert {0 < client.ttl(name) <= 7 * 24 * 3600 for name in client.scan_iter()} == {True}


# --- the worker --------------------------------------------------------------------------------------------------


class Worker:
    """The parts of a runtime that the job uses."""

    def __init__(self, client: redis.Redis, settings: Settings, store: FeatureStore | Exception) -> None:
        self.redis, self.settings, self._store = client, settings, store
        self.unfinished = Unfinished()

    @property
    def store(self) -> FeatureStore:
        if isinstance(self._store, Exception):
            raise self._store
        return self._store


def run(client: redis.Redis, settings: Settings, store: FeatureStore | Exception, **query: Any) -> str:
    board = DuplicateBoard(client, settings.data_dir)
    job = board.create(query.get("min_score", 0.97), query.get("folder"))
    run_duplicate_job(cast(Any, Worker(client, settings, store)), job.id)
    return job.id


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Four images: two of the same content, and one that differs from a third by a hair."""
    store = make_store(tmp_path)
    rows = [record(f"photos/{name}.jpg", content=content) for name, content in zip("abcd", "xyxz", strict=True)]
    features = np.zeros((4, 8), np.float32)
    features[[0, 2], 0] = 1
    features[1, 1] = features[3, 1] = 1
    features[3, 2] = 0.1
    store.publish("one", precision="float32", records=rows, features=features, thumbnails=[b""] * 4)
    return store


def test_a_worker_finds_the_groups(client: redis.Redis, settings: Settings, store: FeatureStore) -> None:
    page = DuplicateBoard(client, settings.data_dir).page(run(client, settings, store), None, 10)
    assert (page.state, page.done, page.total, page.found_groups, page.found_images) == ("done", 4, 4, 2, 4)
    assert [[image.path for image in group.images] for group in page.groups] == [
        ["photos/a.jpg", "photos/c.jpg"],
        ["photos/b.jpg", "photos/d.jpg"],
    ]
    assert page.groups[0].lowest_score == page.groups[0].best_score == 1
    assert page.groups[1].lowest_score == pytest.approx(1 / np.sqrt(1.01), abs=1e-4)
    image = page.groups[0].images[0]
    assert (image.image_id, image.width, image.height) == (image_id("photos/a.jpg"), 641, 480)
    assert image.size > 1000


def test_a_job_that_is_delivered_twice_runs_once(client: redis.Redis, settings: Settings, store: FeatureStore) -> None:
    job_id = run(client, settings, store)
    before = DuplicateBoard(client, settings.data_dir).get(job_id)
    run_duplicate_job(cast(Any, Worker(client, settings, store)), job_id)
    assert DuplicateBoard(client, settings.data_dir).get(job_id) == before


@pytest.mark.parametrize(
    ("error", "message"),
    [(ModelNotReady(), "No worker has loaded the model"), (ZeroDivisionError("a secret"), "internal error")],
)
def test_a_job_that_fails_says_why(client: redis.Redis, settings: Settings, error: Exception, message: str) -> None:
    job = DuplicateBoard(client, settings.data_dir).get(run(client, settings, error))
    assert job.state == "failed"
    assert message in (job.error or "")
    assert "secret" not in (job.error or "")


def test_images_that_went_meanwhile_are_left_out(store: FeatureStore) -> None:
    groups = find_groups(store, 0.97)
    publish(store, "gone", tombstones={"photos/a.jpg": 2})
    store.refresh()
    paths = [[image.path for image in group.images] for group in described(store, groups)]
    assert paths == [["photos/b.jpg", "photos/d.jpg"]]
    assert list(described(store, [Group([image_id("photos/b.jpg")], 1, 1)])) == []


def test_the_task_goes_to_the_maintenance_queue(settings: Settings) -> None:
    from common.celery_app import FIND_DUPLICATES, MAINTENANCE
    from common.jobs import Client

    client = Client(settings)
    with client.redis:
        job = client.submit_duplicate_job(0.97, "photos")
        assert client.redis.llen(MAINTENANCE) == 1
        assert client.duplicates(job.id, None, 10).state == "queued"
        assert client._celery.conf.task_routes[FIND_DUPLICATES] == {"queue": MAINTENANCE}
