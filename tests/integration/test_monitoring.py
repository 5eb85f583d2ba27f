"""What operators see of a real system: one id in the logs of all processes, metrics, and Flower."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from benchmarks.system import System, environment, free_port, wait_until
from common.celery_app import INDEX_BATCH, SCAN, SEARCH
from tests.unit.web.scrape import Scrape
from web import create_app


def lines_about(system: System, queue: str, request_id: str) -> list[str]:
    """The lines of a worker's log that name a request."""
    (log,) = system.logs.glob(f"*-{queue}.log")
    return [line for line in log.read_text().splitlines() if f"request_id={request_id}" in line.split()]


def indexed(system: System, client: FlaskClient, request_id: str) -> str:
    """Indexes the library through the web tier. Gives the job's id."""
    answer = client.post("/api/v1/index-jobs", json={"folder": "photos"}, headers={"X-Request-ID": request_id})
    job = system.wait_for_job(answer.get_json()["id"])
    assert (job.state, job.failed) == ("done", 1)
    return job.id


def test_one_id_finds_a_request_in_all_processes_and_the_metrics_count_it(running: System, pictures: Path) -> None:
    (pictures / "broken.jpg").write_bytes(b"no picture")
    client = create_app(running.settings).test_client()
    job_id = indexed(running, client, "index-me")
    lines = lines_about(running, "bulk", "index-me")
    assert all(f"job_id={job_id}" in line.split() for line in lines)
    batches = {found[1] for line in lines if (found := re.search(r"embedded.* batch=(\S+)", line))}
    assert batches
    assert f"Task {SCAN}" in str(lines)

    picture = (pictures / "holiday" / "0003.jpg").read_bytes()
    for request_id, upload in (("find-me", picture), ("refuse-me", picture[:700])):
        body = {"image": (io.BytesIO(upload), "a.jpg")}
        accepted = client.post("/api/v1/searches", data=body, headers={"X-Request-ID": request_id}).get_json()
        assert client.get(f"{accepted['url']}?wait=30").get_json()["state"] in {"done", "failed"}
        wait_until(lambda name=request_id: f"Task {SEARCH}" in str(lines_about(running, "query", name)), "its end", 20)
        for line in lines_about(running, "query", request_id):
            assert f"search_id={accepted['id']}" in line.split()
    assert "the search failed: The image is damaged" in str(lines_about(running, "query", "refuse-me"))

    scrape = Scrape.of(client)
    images = scrape.values("imagesearch_indexed_images_total", "outcome")
    assert images == {"embedded": 40, "duplicate": 0, "failed": 1}
    assert scrape.values("imagesearch_index_failures_total", "reason") == {"unsupported-image": 1}
    assert scrape.values("imagesearch_queries_total", "state") == {"done": 1, "failed": 1, "refused": 0, "abandoned": 0}
    assert scrape.values("imagesearch_search_failures_total", "reason") == {"damaged-image": 1}
    counts = scrape.values("imagesearch_batch_stage_seconds_count", "stage")
    assert set(counts.values()) == {counts["total"]}
    assert counts["total"] == len(batches)
    for stage in counts:
        assert (scrape.value("imagesearch_batch_stage_seconds_sum", stage=stage) or 0) > 0, stage
    assert len(scrape.values("imagesearch_worker_info", "worker")) == 2


@contextmanager
def flower(system: System) -> Iterator[str]:
    """Flower as the compose file starts it. Gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "common.flower_app", "flower", f"--port={port}"]
    env = {**environment(system.settings), "FLOWER_UNAUTHENTICATED_API": "true"}
    with (system.logs / "flower.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--address=127.0.0.1"], env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def told(address: str) -> Any:
    """The JSON at an address; empty while there is none."""
    try:
        with urllib.request.urlopen(address, timeout=20) as response:
            return json.load(response)
    except (OSError, ValueError):
        return {}


def test_flower_sees_the_workers_and_their_tasks(running: System, pictures: Path) -> None:
    with flower(running) as address:

        def served() -> dict[str, set[str]]:
            """Each queue, and the tasks that its worker knows; a busy worker may miss a question of Flower's."""
            workers = told(f"{address}/api/workers?refresh=1").values()
            return {
                queue["name"]: set(worker.get("registered", ()))
                for worker in workers
                for queue in worker.get("active_queues", ())
            }

        def is_complete() -> bool:
            found = served()
            return found.keys() == {"bulk", "query"} and all({INDEX_BATCH, SEARCH} <= tasks for tasks in found.values())

        wait_until(is_complete, "Flower sees the workers", 90, every=0.5)
        job = running.index("photos")
        assert (job.state, job.done) == ("done", 40)

        def finished() -> set[str]:
            tasks = told(f"{address}/api/tasks").values()
            return {task["name"] for task in tasks if task["state"] == "SUCCESS"}

        wait_until(lambda: {SCAN, INDEX_BATCH} <= finished(), "Flower has seen the tasks end", 90, every=0.5)
