"""What is stored: status, export, verify, compact, weights."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from common.cli.app import run
from common.jobs import Client
from common.models import publish_model
from common.recall import RecallBoard
from common.settings import Settings
from common.store import FeatureStore
from tests.unit.cli.conftest import Terminal
from tests.unit.cli.players import SPEC, json_of, worker


def test_status_before_and_after_the_first_model(
    client: Client, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "--json"]) == 0
    state = json_of(capsys)
    assert (state["images"], state["model"], state["workers"]) == (0, None, [])
    publish_model(settings, SPEC)
    with worker(client, "query", precision="bfloat16"):
        assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert "toy/out (UNTRAINED" in out
    assert "bfloat16" in out


def test_export_verify_and_status_read_the_store(
    store: FeatureStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "features.h5"
    assert run(["export", str(target)]) == 0
    with h5py.File(target) as file:
        assert file["paths"].asstr()[:].tolist() == ["photos/a b.jpg"]
    capsys.readouterr()
    assert run(["export", str(target), "--json"]) == 0
    assert json_of(capsys) == {"file": str(target), "images": 1}
    assert run(["verify", "--json"]) == 0
    assert json_of(capsys) == {"ok": True, "store": str(store.path), "segments": 1, "problems": {}}
    assert run(["status", "--json"]) == 0
    assert json_of(capsys)["images"] == 1


def test_verify_names_a_damaged_segment(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(store.segments_path.glob("one*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    assert run(["verify", "--json"]) == 1
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)["problems"]) == ["one"]
    assert captured.err.startswith("one: ") or "\none: " in captured.err


def test_the_store_before_any_worker_has_loaded_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--json"]) == 3
    assert "No worker has loaded the model" in json_of(capsys)["error"]


def test_compact_asks_the_maintenance_worker(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compact"]) == 3
    assert "No maintenance worker is running" in capsys.readouterr().err
    with worker(client, "bulk", "maintenance"):
        assert run(["compact"]) == 0
        assert "compacts the store now" in capsys.readouterr().out
        assert run(["compact", "--json"]) == 0
        assert json_of(capsys) == {"requested": True}
    assert client.queues().maintenance == 2


def test_weights_reports_what_will_be_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["weights", "--json"]) == 0
    assert json_of(capsys)["trained"] is False
    monkeypatch.setenv("IMAGESEARCH_WEIGHTS", str(settings.data_dir / "none.h5"))
    assert run(["weights"]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_status_shows_the_observed_recall(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    RecallBoard(client.redis).add(199, 200)
    assert run(["status"]) == 0
    assert "recall     99.5% of the ten best" in capsys.readouterr().out


def test_a_terminal_shows_the_status_in_colours(
    client: Client, settings: Settings, store: FeatureStore, terminal: Terminal
) -> None:
    with worker(client, "query", precision="int8", images_per_second=41.25):
        assert terminal.run("status") == 0
    lines = terminal.text().splitlines()
    assert lines[0] == "\x1b[1mimages     \x1b[0m1 in 1 segments"
    assert lines[1].startswith("\x1b[1mmodel      \x1b[0m\x1b[33mtoy/out (UNTRAINED")
    assert lines[-2].startswith("\x1b[1mworker ")
    assert "\x1b[32midle\x1b[0m" in lines[-1]
    assert "41.2" in lines[-1]


def test_verify_shows_on_a_terminal_how_far_it_is(store: FeatureStore, terminal: Terminal) -> None:
    assert terminal.run("verify") == 0
    shown = terminal.text()
    assert "1 of 1" in shown
    assert shown.endswith("all are sound.\n")
