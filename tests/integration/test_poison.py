"""Files that end the process that reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.injection import injected
from benchmarks.system import System
from common.store import open_store
from tests.integration.conftest import fill

HARMLESS = 40


@pytest.mark.parametrize("poisons", [["0007-poison.jpg"], ["0003-poison.jpg", "0004-poison.jpg"]])
def test_only_the_guilty_file_is_given_up(system: System, library: Path, poisons: list[str]) -> None:
    fill(library, range(HARMLESS))
    for name in poisons:
        (library / name).write_bytes((library / "0000.jpg").read_bytes() + name.encode())
    with injected(poison="poison"):
        system.start_worker("bulk")
        system.start_worker("bulk")
    job = system.index("photos")
    total = HARMLESS + len(poisons)
    assert (job.state, job.total, job.done, job.failed) == ("done", total, HARMLESS, len(poisons))
    errors = {error.path: error.error for error in system.client.job_errors(job.id)}
    assert errors.keys() == {f"photos/{name}" for name in poisons}
    assert all(error.startswith("It ended 3 workers") for error in errors.values())
    store = open_store(system.settings)
    store.refresh()
    assert [entry.path for entry in store.catalog.below(None)] == [f"photos/{n:04}.jpg" for n in range(HARMLESS)]
    assert not any(problems for _, problems in store.verify())
