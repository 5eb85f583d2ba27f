"""The data folder is copied while it changes, as `docs/operations.md` says, and the copy is a whole store."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.injection import injected
from benchmarks.system import System, environment, wait_until
from common.cli.app import run
from common.settings import Settings
from common.store import open_store
from tests.integration.conftest import fill

PICTURES = 300
LEFT_OUT = ("./cache", "./jobs", "./redis", ".*.tmp")


def live(settings: Settings) -> set[str]:
    store = open_store(settings)
    store.refresh()
    return {entry.path for entry in store.catalog.below(None)}


def copy(source: Path, target: Path) -> None:
    """By tar, as an operator would."""
    target.mkdir()
    pack = ["tar", "-C", str(source), "-c", *(f"--exclude={name}" for name in LEFT_OUT), "."]
    with subprocess.Popen(pack, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as packing:
        subprocess.run(["tar", "-C", str(target), "-x"], stdin=packing.stdout, check=True)
        assert packing.stderr is not None
        messages = packing.stderr.read().decode()
    # A folder that files are published in "changed as we read it"; but no file of the list may be missing.
    assert packing.returncode in {0, 1}, messages
    assert "removed before we read it" not in messages


def test_a_copy_that_is_made_while_everything_runs_is_a_backup(
    system: System, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(library, range(PICTURES))
    with injected(stub=0.01):
        workers = [system.start_worker(queues, ready=False) for queues in ("bulk", "maintenance")]
    for worker in workers:
        worker.wait_ready()
    job = system.client.submit_index_job("photos")
    found: list[int] = []
    for number in range(4):
        wait_until(lambda: len(live(system.settings)) > (found[-1] if found else 0), "more is indexed")
        before = live(system.settings)
        found.append(len(before))
        system.client.request_compaction()
        copy(system.settings.data_dir, tmp_path / f"copy-{number}")
        copied = system.settings.model_copy(update={"data_dir": tmp_path / f"copy-{number}"})
        assert live(copied) >= before
        for name, value in environment(copied).items():
            monkeypatch.setenv(name, value)
        assert run(["verify"]) == 0
        assert "all are sound" in capsys.readouterr().out
    assert found[0] < PICTURES
    assert system.wait_for_job(job.id).done == PICTURES
    notes = list(open_store(system.settings).segments_path.glob("*.replaced-by.*"))
    assert notes, "nothing was merged meanwhile"
