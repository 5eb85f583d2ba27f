"""What is wrong with the system: each problem comes with its cause, and goes with it."""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
import redis

from common import problems, storage
from common.celery_app import QUERY
from common.jobs import Client
from common.messages import SearchQuery, SystemProblem, WorkerInfo
from common.problems import ProblemLog, system_problems
from common.redis_client import connect
from common.settings import Settings
from common.store import FeatureStore, open_store
from tests.fakes import FAKE_SPEC
from tests.redis_troubles import full
from tests.unit.helpers import publish, segment_file
from workers.activity import Activity
from workers.health import Health


@pytest.fixture
def client(settings: Settings) -> Client:
    return Client(settings)


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    store = open_store(settings, FAKE_SPEC)
    publish(store, "s1", ["photos/a.jpg"])
    publish(store, "s2", ["photos/b.jpg"])
    store.keep_up()
    return store


def worker(state: str = "idle", *found: SystemProblem) -> WorkerInfo:
    return WorkerInfo.model_validate(
        {
            "name": "query@here:1",
            "host": "here",
            "pid": 1,
            "queues": [QUERY],
            "state": state,
            "problems": found,
            "last_seen": datetime.now(timezone.utc),
        }
    )


def kinds(client: Client, store: FeatureStore | None, *workers: WorkerInfo) -> list[str]:
    return [problem.kind for problem in system_problems(client, store, workers)]


def test_nothing_is_wrong(client: Client, store: FeatureStore) -> None:
    assert kinds(client, store, worker()) == []
    assert kinds(client, None) == []


def test_a_damaged_segment_is_named_until_it_is_moved_away(client: Client, store: FeatureStore, tmp_path: Path) -> None:
    segment_file(store, "s2").write_bytes(b"rotten")
    store.keep_up()
    (problem,) = system_problems(client, store, [])
    assert problem.kind == "segments-damaged"
    assert problem.detail.startswith("Segment s2.h5 is damaged")
    segment_file(store, "s2").rename(tmp_path / "away")
    store.keep_up()
    assert kinds(client, store) == []


def test_many_damaged_segments_are_counted(client: Client, store: FeatureStore) -> None:
    store.damaged.update({f"s{number}": "rotten" for number in range(5)})
    (problem,) = system_problems(client, store, [])
    assert problem.detail.startswith("5 segments (s0, s1, s2 and 2 more) are damaged")


def test_a_full_disk_is_told_once_whoever_sees_it(
    client: Client, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = SystemProblem(kind="disk-full", detail="The worker's words.")
    assert [p.detail for p in system_problems(client, store, [worker("idle", told)])] == ["The worker's words."]
    monkeypatch.setattr(storage, "MIN_FREE_BYTES", 1 << 60)
    assert [p.detail for p in system_problems(client, store, [worker("idle", told)])] == ["The worker's words."]
    assert kinds(client, store) == ["disk-full"]
    monkeypatch.undo()
    assert kinds(client, store) == []


def test_a_full_redis_is_told_while_it_is_full(client: Client, settings: Settings) -> None:
    with full(connect(settings)):
        assert kinds(client, None) == ["redis-full"]
    assert kinds(client, None) == []


def test_what_is_stored_can_be_read_while_redis_is_full(client: Client, settings: Settings, library: Path) -> None:
    search = client.submit_search(SearchQuery(), [b"a picture"])
    job = client.submit_index_job("photos")
    duplicates = client.submit_duplicate_job(0.97)
    with full(connect(settings)):
        assert client.search(search.id).state == "queued"
        assert client.job(job.id).state == client.jobs()[0].state == "scanning"
        assert client.duplicate_jobs()[0].id == duplicates.id
        assert client.queues().query == 1
        client.withdraw_search(search.id)


def test_searches_that_no_idle_worker_takes(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection: redis.Redis = connect(settings)
    connection.lpush(QUERY, json.dumps({"headers": {"imagesearch": {"sent_at": time.time()}}}))
    monkeypatch.setattr(problems, "SEARCHES_WAIT_SECONDS", -1.0)
    assert kinds(client, None, worker("idle")) == ["searches-not-taken"]
    assert kinds(client, None, worker("idle"), worker("busy")) == []
    assert kinds(client, None) == []  # that no worker is there is told elsewhere


def test_a_log_line_when_it_begins_and_one_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    log = ProblemLog(logging.getLogger("test"))
    trouble = SystemProblem(kind="disk-full", detail="No room.")
    with caplog.at_level(logging.INFO):
        for found in ([trouble], [trouble], [], []):
            log.update(found)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages[0] == "disk-full: No room."


# --- a worker that hangs -----------------------------------------------------------------------------------------


def test_a_worker_that_does_not_get_on_is_stuck_until_it_does(settings: Settings, tmp_path: Path) -> None:
    activity = Activity()
    settings = settings.model_copy(update={"search_timeout_seconds": 0})
    health = Health("query@here:1", [QUERY], activity, storage.StorageWatch(tmp_path), settings)
    assert health.facts() == {"problems": []}
    activity.change(+1)
    assert activity.stalled_seconds > 0
    facts = health.facts()
    assert facts["state"] == "stuck"
    assert [problem.kind for problem in facts["problems"]] == ["worker-stuck"]
    activity.change(-1)
    assert health.facts() == {"problems": []}


def test_an_indexer_reports_its_disk(settings: Settings, tmp_path: Path) -> None:
    health = Health("bulk@here:1", ["bulk"], Activity(), storage.StorageWatch(tmp_path / "gone"), settings)
    assert [problem.kind for problem in health.facts()["problems"]] == ["folder-not-writable"]


def test_what_begins_beside_something_that_hangs_is_no_progress() -> None:
    activity = Activity()
    activity.change(+1)
    time.sleep(0.05)
    stalled = activity.stalled_seconds
    activity.change(+1)
    assert activity.stalled_seconds >= stalled
    activity.beat()
    assert activity.stalled_seconds < stalled
