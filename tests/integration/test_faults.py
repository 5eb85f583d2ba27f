"""What is killed, paused or wrongly set up while it works."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from benchmarks.system import System, wait_until
from common.store import open_store
from tests.integration.conftest import fill

MANY = 200


def verify(system: System) -> None:
    store = open_store(system.settings)
    assert [problems for _, problems in store.verify() if problems] == []


def live_paths(system: System) -> list[str]:
    store = open_store(system.settings)
    store.refresh()
    return [entry.path for entry in store.catalog.below(None)]


def test_a_job_survives_the_kill_of_its_worker(light: System, library: Path) -> None:
    fill(library, range(MANY))
    worker = light.start_worker("bulk")
    job = light.client.submit_index_job("photos")
    wait_until(lambda: light.client.job(job.id).done >= 32, "two batches are done")
    worker.kill()
    assert light.client.job(job.id).state in {"scanning", "running"}
    light.start_worker("bulk")
    ended = light.wait_for_job(job.id)
    assert (ended.state, ended.found, ended.total, ended.done, ended.failed) == ("done", MANY, MANY, MANY, 0)
    assert live_paths(light) == [f"photos/{number:04}.jpg" for number in range(MANY)]
    verify(light)
    assert "[tasks]" not in worker.log.read_text()  # the banner of Celery's
    again = light.index("photos")
    assert (again.unchanged, again.total) == (MANY, 0)


def test_a_job_survives_the_kill_of_a_child_process(light: System, library: Path) -> None:
    fill(library, range(MANY))
    light.start_worker("bulk")
    job = light.client.submit_index_job("photos")
    wait_until(lambda: light.client.job(job.id).done >= 16, "a batch is done")
    (child,) = {worker.pid for worker in light.client.workers()}
    os.kill(child, signal.SIGKILL)
    ended = light.wait_for_job(job.id)
    assert (ended.state, ended.total, ended.done, ended.failed, ended.error) == ("done", MANY, MANY, 0, None)
    verify(light)


def test_a_job_can_be_paused_resumed_and_cancelled(light: System, library: Path) -> None:
    fill(library, range(MANY))
    light.start_worker("bulk")
    job = light.client.submit_index_job("photos")
    wait_until(lambda: light.client.job(job.id).done >= 16, "a batch is done")
    light.client.pause_job(job.id)
    wait_until(lambda: light.client.queues().bulk == 0, "the waiting batches are put aside")
    wait_until(lambda: all(w.state == "idle" for w in light.client.workers()), "the running batch ends")
    paused = light.client.job(job.id)
    assert paused.state == "paused"
    assert 0 < paused.done < MANY
    assert paused.eta_seconds is None
    light.client.resume_job(job.id)
    ended = light.wait_for_job(job.id)
    assert (ended.state, ended.done, ended.error) == ("done", MANY, None)

    fill(library, range(MANY, 2 * MANY))
    job = light.client.submit_index_job("photos")
    wait_until(lambda: light.client.job(job.id).done >= 16, "a batch is done")
    light.client.cancel_job(job.id)
    wait_until(lambda: light.client.queues().bulk == 0, "the waiting batches are dropped")
    wait_until(lambda: all(w.state == "idle" for w in light.client.workers()), "the running batch ends")
    assert light.client.job(job.id).state == "cancelled"
    kept = len(live_paths(light))
    assert MANY < kept < 2 * MANY
    verify(light)


def test_a_worker_without_weights_ends_and_says_how_to_provide_them(system: System) -> None:
    system.settings = system.settings.model_copy(update={"model": "vgg16", "weights": "/nowhere/weights.h5"})
    worker = system.start_worker("query", ready=False)
    assert worker.process.wait(60) == 1
    assert "/nowhere/weights.h5 does not exist" in worker.log.read_text()


def test_a_worker_that_may_wait_for_weights_reports_what_is_missing(system: System) -> None:
    system.settings = system.settings.model_copy(update={"model": "vgg16", "weights": "/nowhere/weights.h5"})
    system.start_worker("query", "--wait-for-weights", ready=False)
    wait_until(lambda: [w.state for w in system.client.workers()] == ["waiting"], "the worker reports that it waits")
    (report,) = system.client.workers()
    assert "/nowhere/weights.h5" in (report.detail or "")


def test_a_damaged_model_file_ends_the_worker_with_its_name(system: System, tmp_path: Path) -> None:
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK\x03\x04 this is no model")
    system.settings = system.settings.model_copy(update={"model": str(broken)})
    worker = system.start_worker("bulk", ready=False)
    worker.process.wait(90)
    assert "broken.keras cannot be loaded as a Keras model" in worker.log.read_text()


def test_another_model_gets_a_store_of_its_own(system: System, library: Path, tmp_path: Path) -> None:
    fill(library, range(5))
    worker = system.start_worker("bulk")
    system.index("photos")
    worker.kill()
    other = tmp_path / "other.keras"
    other.write_bytes(Path(system.settings.model).read_bytes())
    changed = system.settings.model_copy(update={"model": str(other)})
    second = System(changed, tmp_path)
    try:
        second.start_worker("bulk")
        assert second.index("photos").done == 5
    finally:
        second.kill()
    stores = sorted(path.name for path in (system.settings.data_dir / "stores").iterdir())
    assert [name.split("-")[0] for name in stores] == ["other", "small"]
    assert len(live_paths(system)) == 5


def test_searches_are_answered_while_a_job_runs(light: System, library: Path) -> None:
    fill(library, range(MANY))
    bulk = light.start_worker("bulk", ready=False)
    light.start_worker("query")
    bulk.wait_ready()
    job = light.client.submit_index_job("photos")
    # Not the job's counter: it shows files of a batch that is not published yet.
    wait_until(lambda: bool(live_paths(light)), "a batch is published")
    result = light.search((library / "0000.jpg").read_bytes(), k=1)
    assert result.state == "done"
    assert 0 < (result.indexed or 0) <= MANY
    assert result.results[0].path == "photos/0000.jpg"
    assert light.wait_for_job(job.id).done == MANY
