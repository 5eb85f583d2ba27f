"""Workers and the web tier that are told to stop in the middle of their work."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.injection import injected
from benchmarks.system import System, WebProcess, WorkerProcess, wait_until
from common.celery_app import QUERY
from common.messages import SearchQuery
from common.settings import Settings
from common.store import open_store
from common.worklist import SCAN_ITEM, WorkList
from tests.chaos.rolling import roll
from tests.integration.conftest import fill
from tests.unit.web.building import picture_bytes

SEARCHES = 60
DRAIN_SECONDS = 60


def stop(worker: WorkerProcess) -> None:
    """Tells it to stop, several times, and waits until it has ended by itself."""
    for _ in range(2):
        worker.process.terminate()
        time.sleep(0.2)
    # Python takes back its handlers just before it ends: then the second signal finds nobody.
    assert worker.process.wait(DRAIN_SECONDS) in {0, -signal.SIGTERM}, worker.log.read_text()[-3000:]


def test_no_search_gets_lost_when_a_query_worker_stops(system: System, library: Path) -> None:
    fill(library, range(20))
    with injected(stub=0.05):
        workers = [system.start_worker(queues, ready=False) for queues in ("bulk", "query", "query")]
    for worker in workers:
        worker.wait_ready()
    system.index("photos")
    uploads = [path.read_bytes() for path in sorted(library.iterdir())]
    submitted = [
        system.client.submit_search(SearchQuery(k=1), [uploads[number % len(uploads)]]).id for number in range(SEARCHES)
    ]
    stop(workers[1])
    results = [system.client.search(search_id, wait_seconds=30) for search_id in submitted]
    assert [result.state for result in results] == ["done"] * SEARCHES


def test_searches_that_a_worker_holds_for_too_long_go_to_another_one(system: System) -> None:
    """Celery takes one more than there are threads, and no note of it lies in Redis."""
    with injected(stub=60.0):
        worker = system.start_worker("query", "--concurrency", "1")
    redis = system.client.redis
    submitted = [system.client.submit_search(SearchQuery(k=1), [picture_bytes()]).id for _ in range(4)]
    wait_until(lambda: redis.llen(QUERY) == 2, "one runs, and one waits in the worker", 20)
    assert not redis.exists("unacked")
    stop(worker)
    assert redis.llen(QUERY) == 4
    with injected(stub=0):
        system.start_worker("query")
    assert [system.client.search(search_id, wait_seconds=30).state for search_id in submitted] == ["done"] * 4


def test_a_batch_that_takes_too_long_is_handed_to_another_worker(system: System, library: Path) -> None:
    fill(library, range(40))
    with injected(stub=30, drain=3):
        slow = system.start_worker("bulk")
    job = system.client.submit_index_job("photos")

    def holds_a_batch() -> bool:
        return bool(system.client.jobs() and set(_holders(system, job.id)) - {SCAN_ITEM})

    wait_until(holds_a_batch, "a batch is taken", 60)
    stop(slow)
    assert _holders(system, job.id) == {}
    # It need not wait for a lease to run out, nor for the message of a batch to be missed.
    with injected(stub=0):
        system.start_worker("bulk")
    ended = system.wait_for_job(job.id, 60)
    assert (ended.state, ended.done, ended.failed) == ("done", 40, 0)
    assert [found for _, found in open_store(system.settings).verify() if found] == []


def _holders(system: System, job_id: str) -> dict[str, str]:
    return WorkList(system.client.redis).holders(job_id)


def test_restarting_everything_in_turn_loses_no_search(system: System, library: Path) -> None:
    """`python -m tests.chaos.rolling` in short."""
    fill(library, range(20))
    with injected(stub=0.01):
        report = roll(system, library, rounds=1, rate=20)
    figures = report.as_json()
    assert report.errors == []
    assert report.codes == {0}
    assert figures["restarts"] == {"query": 2, "web": 2}
    assert figures["searches"] > 40


def outcome_of_connecting(port: int) -> str:
    """What a request over a new connection comes to."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/healthz")
        with connection.getresponse() as response:
            return f"{response.status}"
    except ConnectionRefusedError:
        return "refused"
    except (ConnectionError, http.client.BadStatusLine):
        return "reset"
    finally:
        connection.close()


def test_the_web_tier_answers_long_polls_at_once_when_it_stops(settings: Settings, tmp_path: Path) -> None:
    system = System(settings, tmp_path)
    search_id = system.client.submit_search(SearchQuery(), [picture_bytes()]).id  # there is no worker
    web = WebProcess(settings)
    answers: list[Any] = []
    try:
        web.wait_ready()

        def poll() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
            connection.request("GET", f"/api/v1/searches/{search_id}?wait=30")
            with connection.getresponse() as response:
                answers.append((response.status, json.loads(response.read())["state"]))
            connection.close()

        threads = [threading.Thread(target=poll) for _ in range(4)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        blocked = lambda: system.client.redis.info("clients")["blocked_clients"] == 4  # noqa: E731
        wait_until(blocked, "four wait", 20)
        web.process.terminate()
        came: list[str] = []
        while "refused" not in came:
            came.append(outcome_of_connecting(web.port))
            assert time.monotonic() - began < 28, "new connections are not refused"
        # Between the last look and the close there is a moment in which one more may come.
        assert came.count("reset") <= 1
        assert set(came) <= {"200", "reset", "refused"}
        assert web.process.wait(25) == 0
        for thread in threads:
            thread.join()
        assert time.monotonic() - began < 28  # and not at the end of their waits
    finally:
        web.kill()
    assert answers == [(200, "queued")] * 4
