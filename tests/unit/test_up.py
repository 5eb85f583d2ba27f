"""What `up` decides and remembers: folders, records, the lock, interrupted jobs, the sample library."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.cli.app import run
from common.errors import ConfigurationError, FolderNotFound
from common.jobs import Client
from common.models import ModelSpec, publish_model
from common.presence import PresenceReporter
from common.progress import JobBoard
from common.redis_client import connect
from common.settings import LibraryRoot, Settings
from common.up import sample
from common.up.parts import address, free_port
from common.up.recovery import INTERRUPTED, InterruptedJob, end_interrupted_jobs, submit_jobs
from common.up.roots import choose_roots
from common.up.run import Waiting, tell_if_untrained
from common.up.run_record import (
    AlreadyRunning,
    RunRecord,
    child_environment,
    is_running,
    load_settings,
    read_record,
    take_lock,
    write_record,
)
from common.up.signals import StopSignals


def quiet(_: str) -> None:
    return None


# --- folders -------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Settings:
    """Settings without any root."""
    return Settings(data_dir=tmp_path / "data")


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample library of one picture."""
    monkeypatch.setattr(sample, "PICTURES_IN_A_FAMILY", 1)
    monkeypatch.setattr(sample, "FAMILIES", {"discs": sample.FAMILIES["discs"]})


def test_the_given_folder_is_added_and_remembered(bare: Settings, tmp_path: Path) -> None:
    run_folder = folder(bare.data_dir / "run")
    first, second = folder(tmp_path / "a" / "pictures"), folder(tmp_path / "b" / "pictures")
    assert choose_roots(bare, first, quiet) == ((LibraryRoot(name="pictures", path=first),), ["pictures"])
    roots, to_index = choose_roots(bare, second, quiet)
    assert [(root.name, root.path) for root in roots] == [("pictures", first), ("pictures-2", second)]
    assert to_index == ["pictures-2"]
    assert choose_roots(bare, None, quiet) == (roots, ["pictures", "pictures-2"])
    assert choose_roots(bare, second, quiet) == (roots, ["pictures-2"])
    assert json.loads((run_folder / "roots.json").read_text())[1]["name"] == "pictures-2"


def test_roots_of_the_settings_come_first(bare: Settings, tmp_path: Path) -> None:
    folder(bare.data_dir / "run")
    own, given = folder(tmp_path / "own"), folder(tmp_path / "given")
    settings = bare.model_copy(update={"library_roots": (LibraryRoot(name="given", path=own),)})
    roots, to_index = choose_roots(settings, given, quiet)
    assert [(root.name, root.path) for root in roots] == [("given", own), ("given-2", given)]
    assert to_index == ["given-2"]


def test_a_folder_inside_a_root_is_no_second_root(bare: Settings, tmp_path: Path) -> None:
    inside = folder(tmp_path / "photos" / "2024")
    settings = bare.model_copy(update={"library_roots": (LibraryRoot(name="photos", path=tmp_path / "photos"),)})
    assert choose_roots(settings, inside, quiet) == (settings.library_roots, ["photos/2024"])


def test_a_folder_that_is_gone_is_left_out_with_a_note(bare: Settings, tmp_path: Path) -> None:
    folder(bare.data_dir / "run")
    gone, stays = folder(tmp_path / "gone"), folder(tmp_path / "stays")
    choose_roots(bare, gone, quiet)
    gone.rmdir()
    notes: list[str] = []
    roots, _ = choose_roots(bare, stays, notes.append)
    assert [root.name for root in roots] == ["stays"]
    assert str(gone) in notes[0]


def test_folders_that_cannot_be_roots(bare: Settings, tmp_path: Path) -> None:
    with pytest.raises(FolderNotFound):
        choose_roots(bare, tmp_path / "missing", quiet)
    with pytest.raises(ConfigurationError, match="':'"):
        choose_roots(bare, folder(tmp_path / "a:b"), quiet)


def test_a_name_with_an_equals_sign_is_written_without(bare: Settings, tmp_path: Path) -> None:
    folder(bare.data_dir / "run")
    roots, _ = choose_roots(bare, folder(tmp_path / "a=b"), quiet)
    assert Settings.load(child_environment(bare.model_copy(update={"library_roots": roots}))).library_roots == roots


@pytest.mark.usefixtures("no_pictures")
def test_without_any_folder_a_sample_library_is_made(bare: Settings) -> None:
    folder(bare.data_dir / "run")
    roots, to_index = choose_roots(bare, None, quiet)
    assert roots == (LibraryRoot(name="sample-library", path=bare.data_dir / "sample-library"),)
    assert to_index == ["sample-library"]
    assert choose_roots(bare, None, quiet) == (roots, to_index)


def test_every_family_of_the_sample_library_is_alike_inside_and_different_outside(tmp_path: Path) -> None:
    means = {}
    for name, draw in sample.FAMILIES.items():
        random = np.random.default_rng(1)
        pictures = [np.clip(draw(random), 0, 1) for _ in range(2)]
        assert all(picture.shape == (sample.HEIGHT, sample.WIDTH, 3) for picture in pictures)
        assert not np.array_equal(*pictures)
        means[name] = [picture.mean(axis=(0, 1)) for picture in pictures]
    for name, (one, other) in means.items():
        others = [np.linalg.norm(one - mean[0]) for label, mean in means.items() if label != name]
        assert np.linalg.norm(one - other) < max(others)


@pytest.mark.usefixtures("no_pictures")
def test_the_sample_library_is_made_once(tmp_path: Path) -> None:
    said: list[str] = []
    path = sample.make_sample_library(tmp_path / "sample-library", said.append)
    pictures = list(path.rglob("*.jpg"))
    assert len(pictures) == 1
    with Image.open(pictures[0]) as picture:
        assert picture.size == (sample.WIDTH, sample.HEIGHT)
    sample.make_sample_library(path, said.append)
    assert len(said) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["sample-library"]


# --- the record and the lock ---------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(
        pid=os.getpid(),
        address="http://127.0.0.1:8000",
        redis_url="unix:///run/x/redis.sock",
        library_roots=(LibraryRoot(name="photos", path=tmp_path),),
        model="vgg16",
        weights="untrained",
        precision="int8",
        booted=1.0,
    )


def test_the_command_line_finds_a_running_up(tmp_path: Path, record: RunRecord) -> None:
    environ = {"IMAGESEARCH_DATA_DIR": str(tmp_path)}
    assert load_settings(environ) == Settings.load(environ)
    with take_lock(tmp_path):
        assert load_settings(environ) == Settings.load(environ)  # it starts, and has written no record yet
        write_record(tmp_path, record)
        assert is_running(tmp_path)
        found = load_settings(environ)
        assert (found.redis_url, found.weights, found.precision) == (record.redis_url, "untrained", "int8")
        assert found.library_roots == record.library_roots
        chosen = {**environ, "IMAGESEARCH_REDIS_URL": "redis://elsewhere"}
        assert load_settings(chosen) == Settings.load(chosen)
    assert not is_running(tmp_path)
    assert load_settings(environ) == Settings.load(environ)  # the record of one that was killed counts for nothing


def test_an_unreadable_record_is_none(tmp_path: Path) -> None:
    folder(tmp_path / "run").joinpath("up.json").write_text("{")
    assert read_record(tmp_path) is None


def test_a_second_up_is_refused_and_told_where_the_first_is(
    tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGESEARCH_DATA_DIR", str(tmp_path))
    with take_lock(tmp_path):
        write_record(tmp_path, record)
        with pytest.raises(AlreadyRunning):
            take_lock(tmp_path)
        assert run(["up"]) == 1
        assert f"http://127.0.0.1:8000 (process {os.getpid()})" in capsys.readouterr().err
        assert read_record(tmp_path) == record


def test_a_port_that_is_taken_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGESEARCH_DATA_DIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["up", "--port", str(port), "--images", str(tmp_path)]) == 2
    assert f"127.0.0.1:{port} cannot be used (Address already in use)" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()
    assert not is_running(tmp_path)


def test_addresses_for_a_browser_on_this_machine() -> None:
    assert address("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert address("::", 80) == "http://[::1]:80"
    assert address("photos.local", 8000) == "http://photos.local:8000"
    assert free_port("127.0.0.1", 0) > 0


def test_children_see_the_settings(settings: Settings) -> None:
    seen = Settings.load(child_environment(settings))
    assert seen == settings


def test_signals_ask_to_stop_and_a_second_one_to_hurry() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        assert not stop.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested()
        assert not stop.in_hurry()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.in_hurry()
    assert signal.getsignal(signal.SIGTERM) == before


# --- interrupted jobs ----------------------------------------------------------------------------------------


def test_interrupted_jobs_end_and_their_tasks_are_dropped(settings: Settings, library: Path) -> None:
    (library / "shop").mkdir()
    client = Client(settings)
    with client.redis:
        board = JobBoard(client.redis)
        running, again, paused = (client.submit_index_job(name) for name in ("photos", "photos", "photos/shop"))
        done = client.submit_index_job("photos/shop")
        board.finish_scan(done.id, board.start_plan(done.id))
        client.pause_job(paused.id)
        client.redis.hset("unacked", "tag", "a task that a worker had taken")

        interrupted = end_interrupted_jobs(settings)

        assert sorted(interrupted, key=lambda job: job.folder) == [
            InterruptedJob("photos", paused=False),
            InterruptedJob("photos/shop", paused=True),
        ]
        for job in (running, again, paused):
            assert (client.job(job.id).state, client.job(job.id).error) == ("failed", INTERRUPTED)
        assert client.job(done.id).state == "done"
        assert client.queues().bulk == 0
        assert not client.redis.exists("unacked")

        jobs = submit_jobs(client, ["photos"], [*interrupted, InterruptedJob("gone", paused=False)])
        assert [(job.folder, job.state) for job in jobs] == [("photos", "scanning"), ("photos/shop", "paused")]
        assert client.queues().bulk == 2


def test_a_job_that_is_under_way_is_not_submitted_twice(settings: Settings) -> None:
    client = Client(settings)
    with client.redis:
        job = client.submit_index_job("photos")
        assert [same.id for same in submit_jobs(client, ["photos"], [])] == [job.id]
        with connect(settings) as other:
            assert other.llen("bulk") == 1


# --- waiting for the workers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [True, False])
def test_untrained_weights_are_told_with_where_to_put_others(
    bare: Settings, trained: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_if_untrained(bare)
    assert capsys.readouterr().out == ""  # no worker has loaded a model
    spec = ModelSpec(
        architecture="vgg16",
        layer="fc1",
        weights_sha256="0" * 64,
        preprocessing="none",
        dimension=8,
        input_size=(8, 8),
        trained=trained,
    )
    publish_model(bare, spec)
    tell_if_untrained(bare)
    said = capsys.readouterr().out
    assert ("The model is UNTRAINED" in said) is not trained
    assert (str(bare.data_dir / "models") in said) is not trained


def test_what_a_worker_says_takes_long_is_told_once(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"state": "loading", "detail": "preparing the model for this processor"}
    reporter = PresenceReporter(connect(settings), ["query"], lambda: facts)
    waiting = Waiting(Client(settings), StopSignals())
    assert not waiting.is_over()
    assert capsys.readouterr().out == ""
    reporter.report()
    assert not waiting.is_over()
    assert not waiting.is_over()
    assert capsys.readouterr().out == "Preparing the model for this processor.\n"
    facts["detail"] = "waiting for its weights."
    reporter.report()
    assert not waiting.is_over()
    assert capsys.readouterr().out == "Waiting for its weights.\n"
    reporter.stop()
