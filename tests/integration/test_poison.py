"""Files that end the process that reads them, and pictures that end the one that decodes them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.injection import injected
from benchmarks.system import System
from common.messages import SearchQuery
from common.store import open_store
from tests.integration.conftest import fill

HARMLESS = 40
# One in a batch, and two beside each other in another.
POISONS = ("0007-poison.jpg", "0030-poison.jpg", "0031-poison.jpg")


def test_only_the_guilty_files_are_given_up(light: System, library: Path) -> None:
    fill(library, range(HARMLESS))
    for name in POISONS:
        (library / name).write_bytes((library / "0000.jpg").read_bytes() + name.encode())
    with injected(stub=0, lease=3, poison="poison"):  # a batch takes far less
        light.start_worker("bulk")
        light.start_worker("bulk")
    job = light.index("photos")
    total = HARMLESS + len(POISONS)
    assert (job.state, job.total, job.done, job.failed) == ("done", total, HARMLESS, len(POISONS))
    errors = {error.path: error.error for error in light.client.job_errors(job.id)}
    assert errors.keys() == {f"photos/{name}" for name in POISONS}
    assert all(error.startswith("It ended 3 workers") for error in errors.values())
    store = open_store(light.settings)
    store.refresh()
    assert [entry.path for entry in store.catalog.below(None)] == [f"photos/{n:04}.jpg" for n in range(HARMLESS)]
    assert not any(problems for _, problems in store.verify())


def test_pictures_that_bring_down_their_decoders_cost_only_themselves(light: System, library: Path) -> None:
    fill(library, range(HARMLESS))
    good = (library / "0000.jpg").read_bytes()
    reasons = {"crash": "SIGSEGV", "kill": "SIGKILL", "allocate": "more memory than its size explains"}
    for name in reasons:
        (library / f"0007-{name}.jpg").write_bytes(good + b"trap:" + name.encode())
    with injected(stub=0, trap="trap"):
        bulk, query = light.start_worker("bulk"), light.start_worker("query")
    pids = {(worker.name, worker.pid) for worker in light.client.workers()}

    job = light.index("photos")
    assert (job.state, job.done, job.failed) == ("done", HARMLESS, len(reasons))
    errors = {error.path: error.error for error in light.client.job_errors(job.id)}
    assert errors.keys() == {f"photos/0007-{name}.jpg" for name in reasons}
    assert all(reason in errors[f"photos/0007-{name}.jpg"] for name, reason in reasons.items())

    pictures = [good, good + b"trap:crash", good, good + b"trap:kill", good]
    searches = [light.client.submit_search(SearchQuery(k=1), [picture]) for picture in pictures]
    results = [light.client.search(search.id, wait_seconds=60) for search in searches]
    assert [result.error_status for result in results] == [None, 422, None, 503, None]
    found, nothing = ["photos/0000.jpg"], list[str]()
    assert [[hit.path for hit in result.results] for result in results] == [found, nothing, found, nothing, found]
    # Nobody but the decoders died.
    assert {(worker.name, worker.pid) for worker in light.client.workers()} == pids
    assert (bulk.process.poll(), query.process.poll()) == (None, None)
