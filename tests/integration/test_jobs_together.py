"""Jobs that run at the same time. The model sleeps instead of computing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.injection import injected
from benchmarks.system import System, wait_until
from common.settings import Settings
from common.store import open_store
from tests.integration.conftest import fill

SLEEP_SECONDS = 0.03


@pytest.fixture
def sleepers(settings: Settings, tmp_path: Path) -> Iterator[System]:
    """A system with two bulk workers whose model sleeps."""
    system = System(settings.model_copy(update={"model": "vgg16", "batch_seconds": 0.5}), tmp_path)
    with injected(stub=SLEEP_SECONDS):
        workers = [system.start_worker("bulk", ready=False) for _ in range(2)]
    for worker in workers:
        worker.wait_ready()
    yield system
    system.kill()


def live_paths(system: System) -> list[str]:
    store = open_store(system.settings)
    store.refresh()
    return [entry.path for entry in store.catalog.below(None)]


def test_two_jobs_on_the_same_folder_end_as_one(sleepers: System, library: Path) -> None:
    fill(library / "a", range(60))
    fill(library / "b", range(60, 120))
    jobs = [sleepers.client.submit_index_job(folder) for folder in ("photos", "photos/b", "photos")]
    ended = [sleepers.wait_for_job(job.id) for job in jobs]
    assert [(job.state, job.found, job.failed) for job in ended] == [("done", n, 0) for n in (120, 60, 120)]
    expected = [f"photos/a/{number:04}.jpg" for number in range(60)]
    assert live_paths(sleepers) == expected + [f"photos/b/{number:04}.jpg" for number in range(60, 120)]
    again = sleepers.index("photos")
    assert (again.unchanged, again.total, again.removed) == (120, 0, 0)
    assert not any(problems for _, problems in open_store(sleepers.settings).verify())


def test_a_small_job_does_not_wait_for_a_big_one(sleepers: System, library: Path) -> None:
    fill(library / "big", range(400))
    fill(library / "small", range(400, 420))
    fill(library / "tiny", range(420, 425))
    big = sleepers.client.submit_index_job("photos/big")
    wait_until(lambda: sleepers.client.job(big.id).done >= 30, "the big job has begun")
    small = sleepers.client.submit_index_job("photos/small")
    tiny = sleepers.client.submit_index_job("photos/tiny")
    first = sleepers.wait_for_job(tiny.id)
    second = sleepers.wait_for_job(small.id)
    assert (first.state, second.state) == ("done", "done")
    running = sleepers.client.job(big.id)
    assert running.state in {"scanning", "running"}
    assert running.done < 300
    assert sleepers.wait_for_job(big.id).done == 400
