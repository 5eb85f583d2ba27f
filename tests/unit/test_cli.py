"""The command line, on a real Redis and a real store; the workers are played by the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from common.cli.app import run
from common.duplicates import DuplicateBoard, DuplicateGroup, DuplicateImage
from common.jobs import Client
from common.journal import JobJournal
from common.messages import SearchHit
from common.models import publish_model
from common.presence import PresenceReporter
from common.progress import JobBoard
from common.recall import RecallBoard
from common.searches import SearchBoard, TakenSearch
from common.settings import Settings, format_roots
from common.store import FeatureStore, ImageRecord, open_store
from tests.fakes import FAKE_SPEC
from tests.pictures import photo

SPEC = FAKE_SPEC.model_copy(update={"architecture": "toy", "layer": "out", "dimension": 4, "trained": False})


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line sees the settings of the test."""
    values = {
        "REDIS_URL": settings.redis_url,
        "DATA_DIR": str(settings.data_dir),
        "LIBRARY_ROOTS": format_roots(settings.library_roots),
        "WEIGHTS": settings.weights,
    }
    for name, value in values.items():
        monkeypatch.setenv(f"IMAGESEARCH_{name}", value)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    client = Client(settings)
    with client.redis:
        yield client


@pytest.fixture
def board(client: Client) -> JobBoard:
    return JobBoard(client.redis)


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    """A store with one image, as a worker would have left it."""
    publish_model(settings, SPEC)
    store = open_store(settings)
    record = ImageRecord("photos", "a.jpg", 10, 1, b"\0" * 32, 8, 8, store.next_sequence())
    store.publish("one", precision="float32", records=[record], features=np.eye(1, 4), thumbnails=[b"jpeg"])
    return store


@contextmanager
def worker(client: Client, *queues: str, **facts: Any) -> Iterator[None]:
    """A worker that reports and does nothing else."""
    reporter = PresenceReporter(client.redis, list(queues), lambda: {"state": "idle"} | facts)
    reporter.report()
    yield
    reporter.stop()


def json_of(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was printed, which must be one JSON document."""
    return json.loads(capsys.readouterr().out)


# --- help, usage, errors -------------------------------------------------------------------------------------


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom common.cli.app import run\nassert run(['--help']) == 0\n"
        "print([name for name in ('pydantic', 'redis', 'celery', 'h5py', 'numpy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    commands = "up worker web index watch query jobs retry pause resume cancel status export verify compact weights"
    commands += " duplicates"
    for name in commands.split():
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["query"], ["jobs", "--what"], ["query", "missing.jpg"]])
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert "Usage: imagesearch" in captured.err
    assert captured.out == ""


def test_wrong_use_with_json_is_a_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "missing.jpg", "--json"]) == 2
    assert "missing.jpg" in json_of(capsys)["error"]


def test_an_unreachable_redis_is_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGESEARCH_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    assert run(["status", "--json"]) == 3
    captured = capsys.readouterr()
    assert "not reachable" in json.loads(captured.out)["error"]
    assert captured.err.startswith("Error: Redis is not reachable")
    assert "secret" not in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_wrong_setting_is_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("IMAGESEARCH_MAX_UPLOAD_BYTES", "many")
    assert run(["status"]) == 2
    assert "IMAGESEARCH_MAX_UPLOAD_BYTES" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("common.jobs.Client.jobs", fails)
    assert run(["jobs"]) == 1
    assert capsys.readouterr().err == (
        "Error: Internal error, RuntimeError: out of luck. PYTHONDEVMODE=1 shows where.\n"
    )


# --- index jobs ----------------------------------------------------------------------------------------------


def test_index_submits_a_job(client: Client, library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", str(library), "--json"]) == 0
    job = json_of(capsys)
    assert job["state"] == "scanning"
    assert job["folder"] == "photos"
    assert [known.id for known in client.jobs()] == [job["id"]]
    assert client.queues().bulk == 1


@pytest.mark.parametrize("text", ["photos/shop", "shop", "./shop", "photos/shop/"])
def test_index_takes_public_and_relative_folders(
    text: str, library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (library / "shop").mkdir()
    monkeypatch.chdir(library)
    assert run(["index", text, "--json"]) == 0
    assert json_of(capsys)["folder"] == "photos/shop"


@pytest.mark.parametrize("text", ["/usr", "nowhere", "photos/nowhere", "photos/../.."])
def test_index_refuses_what_is_not_in_the_library(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", text]) == 2
    assert "does not exist" in (err := capsys.readouterr().err) or "outside the library" in err


def test_index_wait_follows_the_job_and_names_failed_files(
    client: Client, board: JobBoard, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        while not (jobs := client.jobs()):
            time.sleep(0.02)
        plan = board.start_plan(jobs[0].id)
        board.add(jobs[0].id, {"found": 3, "total": 3})
        board.finish_scan(jobs[0].id, plan)
        board.finish_batch(jobs[0].id, plan, "1", done=2, failed={"photos/odd\x1b.jpg": "Damaged."}, duplicates=0)

    thread = threading.Thread(target=work)
    thread.start()
    with worker(client, "bulk"):
        assert run(["index", str(library), "--wait", "--json"]) == 0
    thread.join()
    captured = capsys.readouterr()
    job = json.loads(captured.out)
    assert (job["state"], job["done"], job["failed"]) == ("done", 2, 1)
    assert f"1 could not be indexed (list them: imagesearch jobs {job['id']})" in captured.err
    assert "photos/odd\\x1b.jpg: Damaged." in captured.err


def test_index_wait_is_exit_code_1_if_the_job_is_cancelled(
    client: Client, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        while not (jobs := client.jobs()):
            time.sleep(0.02)
        client.cancel_job(jobs[0].id)

    thread = threading.Thread(target=work)
    thread.start()
    assert run(["index", str(library), "--wait"]) == 1
    thread.join()
    err = capsys.readouterr().err
    assert "cancelled" in err
    assert "No bulk worker is running yet" in err


def test_jobs_are_listed_and_shown(client: Client, board: JobBoard, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs"]) == 0
    assert "No index jobs are known" in capsys.readouterr().out
    job = client.submit_index_job("photos")
    board.add(job.id, {"failed": 1}, {"photos/a.jpg": "The file is empty."})
    assert run(["jobs"]) == 0
    assert job.id in capsys.readouterr().out
    assert run(["jobs", job.id]) == 0
    assert "photos/a.jpg: The file is empty." in capsys.readouterr().out
    assert run(["jobs", job.id, "--json"]) == 0
    assert json_of(capsys)["errors"] == [{"path": "photos/a.jpg", "error": "The file is empty."}]
    assert run(["jobs", "unknown"]) == 1


def test_jobs_are_paused_resumed_and_cancelled(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    job = client.submit_index_job("photos")
    assert run(["pause", job.id]) == 0
    assert capsys.readouterr().out == f"Job {job.id} is paused.\n"
    assert run(["resume", job.id, "--json"]) == 0
    assert json_of(capsys)["state"] == "scanning"
    assert run(["cancel", job.id, "--json"]) == 0
    assert json_of(capsys)["state"] == "cancelled"
    assert run(["resume", job.id]) == 1
    assert "it cannot be resumed" in capsys.readouterr().err


def test_retry_submits_the_failed_files(client: Client, board: JobBoard, capsys: pytest.CaptureFixture[str]) -> None:
    job = client.submit_index_job("photos")
    assert run(["retry", job.id, "--json"]) == 1
    assert "without failed files" in json_of(capsys)["error"]
    board.add(job.id, {"failed": 1}, {"photos/a.jpg": "The file is empty."})
    assert run(["retry", job.id]) == 0
    new = client.jobs()[0]
    assert f"Job {new.id}: trying the failed files of job {job.id} in photos again" in capsys.readouterr().out
    assert board.options(new.id) == (["photos/a.jpg"], False)
    assert run(["retry", "unknown"]) == 1


def test_index_can_be_told_that_the_folder_is_empty(
    client: Client, board: JobBoard, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra, expected in (([], False), (["--allow-empty"], True)):
        assert run(["index", str(library), "--json", *extra]) == 0
        assert board.options(json_of(capsys)["id"]) == (None, expected)


def test_watch_submits_the_folder_and_ends_when_it_is_asked_to(
    client: Client, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        while not client.jobs():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    assert run(["watch", str(library)]) == 0
    thread.join()
    captured = capsys.readouterr()
    assert captured.out == f"Job {client.jobs()[0].id}: looking through photos\n"
    assert "Ctrl-C" in captured.err


@pytest.mark.parametrize("text", ["/usr", "nowhere", "photos/nowhere"])
def test_watch_refuses_what_is_not_in_the_library(text: str) -> None:
    assert run(["watch", text]) == 2


def test_watch_names_the_limit_of_the_system(
    library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached.")

    monkeypatch.setattr("watchfiles.watch", fails)
    assert run(["watch", str(library)]) == 1
    assert "fs.inotify.max_user_watches" in capsys.readouterr().err


def test_a_job_that_redis_has_lost_is_interrupted(
    client: Client, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    job = client.submit_index_job("photos")
    JobJournal(settings.data_dir).begin(job)
    client.redis.flushall()
    assert run(["jobs"]) == 0
    assert f"{job.id}  interrupted" in capsys.readouterr().out
    assert run(["jobs", job.id]) == 0
    assert "photos: interrupted: Redis has lost this job" in capsys.readouterr().out
    assert run(["retry", job.id]) == 1


# --- searches ------------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "query.jpg"
    photo(1).save(path)
    return path


def answer(
    settings: Settings, client: Client, *, error: str | None = None, seen: list[TakenSearch] | None = None
) -> threading.Thread:
    """Plays the query worker for one search, which it puts into `seen`."""
    hit = SearchHit(image_id="x", path="photos/a b.jpg", width=8, height=8, rank=1, score=0.9876543, distance=0.157)

    def work() -> None:
        searches = SearchBoard(client.redis, ttl_seconds=60, timeout_seconds=60)
        while not (keys := client.redis.keys("imagesearch:search:*")):
            time.sleep(0.02)
        taken = searches.take(keys[0].decode().split(":")[2])
        assert taken is not None
        record = taken.record
        if seen is not None:
            seen.append(taken)
        outcome = {"state": "failed", "error": error} if error else {"state": "done", "results": [hit]}
        searches.finish(record, record.result.model_copy(update={"trained": False, **outcome}))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_query_prints_a_table(
    settings: Settings, client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(client, "query"):
        thread = answer(settings, client)
        assert run(["query", str(picture), "-k", "1"]) == 0
        thread.join()
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "rank  score   distance  path",
        "   1  0.9877  0.1570    photos/a b.jpg",
    ]
    assert "untrained" in captured.err


def test_query_prints_json(
    settings: Settings, client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(client, "query"):
        thread = answer(settings, client)
        assert run(["query", str(picture), "--json"]) == 0
        thread.join()
    assert json_of(capsys)["results"][0]["path"] == "photos/a b.jpg"


def test_query_takes_several_pictures_and_what_they_shall_not_be_like(
    settings: Settings, client: Client, picture: Path, tmp_path: Path
) -> None:
    others = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, path in enumerate(others, 2):
        photo(number).save(path)
    seen: list[TakenSearch] = []
    with worker(client, "query"):
        thread = answer(settings, client, seen=seen)
        arguments = [str(picture), str(others[0]), "--minus", str(others[1]), "--minus", str(others[2])]
        assert run(["query", *arguments]) == 0
        thread.join()
    assert seen[0].uploads == tuple(path.read_bytes() for path in (picture, *others))
    assert [image.weight for image in seen[0].record.query.pictures] == [0.5, 0.5, -0.25, -0.25]


def test_query_takes_only_so_many_pictures(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", *[str(picture)] * 12, *["--minus", str(picture)] * 5]) == 2
    assert "At most 16" in capsys.readouterr().err
    assert run(["query", "--minus", str(picture)]) == 2


def test_a_failed_search_is_exit_code_1(
    settings: Settings, client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(client, "query"):
        thread = answer(settings, client, error="The image is damaged.")
        assert run(["query", str(picture), "--json"]) == 1
        thread.join()
    assert json_of(capsys) == {"error": "The image is damaged."}


def test_query_without_a_query_worker_fails_at_once(
    client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with worker(client, "bulk"):
        assert run(["query", str(picture)]) == 3
    assert time.monotonic() - began < 3
    assert "No query worker is running" in capsys.readouterr().err


def test_query_says_what_its_worker_waits_for(
    client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(client, "query", state="waiting", detail="no weights"):
        assert run(["query", str(picture)]) == 3
    assert "no weights" in capsys.readouterr().err


def test_query_refuses_a_file_that_is_too_large(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGESEARCH_MAX_UPLOAD_BYTES", "10")
    assert run(["query", str(picture)]) == 1
    assert "at most 10 are accepted" in capsys.readouterr().err


# --- duplicates ----------------------------------------------------------------------------------------------


def find_duplicates(
    settings: Settings, client: Client, *, error: str | None = None, count: int = 1
) -> threading.Thread:
    """Plays the maintenance worker for one search for duplicates."""
    images = [
        DuplicateImage(image_id="x", path=f"photos/{name}.jpg", width=8, height=6, size=1234) for name in ("a", "b c")
    ]

    def work() -> None:
        board = DuplicateBoard(client.redis, settings.data_dir)
        while not (keys := client.redis.keys("imagesearch:duplicates:*")):
            time.sleep(0.02)
        job = board.begin(keys[0].decode().split(":")[2])
        assert job is not None
        board.report(job, 0, 1500)
        if error:
            board.fail(job, error)
        else:
            board.finish(job, [DuplicateGroup(images=images, lowest_score=0.98765, best_score=1)] * count)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_duplicates_prints_a_table(settings: Settings, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    with worker(client, "bulk", "maintenance"):
        thread = find_duplicates(settings, client)
        assert run(["duplicates"]) == 0
        thread.join()
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "group  score   width  height  bytes  path",
        "    1  0.9877      8       6   1234  photos/a.jpg",
        "    1  0.9877      8       6   1234  photos/b c.jpg",
    ]
    assert "1 groups with 2 of 1,500 pictures" in captured.err


def test_duplicates_prints_one_document_with_all_groups(
    settings: Settings, client: Client, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(client, "maintenance"):
        thread = find_duplicates(settings, client, count=1001)
        assert run(["duplicates", "--min-score", "0.9", "--folder", str(library), "--json"]) == 0
        thread.join()
    document = json_of(capsys)
    assert (document["state"], document["min_score"], document["folder"]) == ("done", 0.9, "photos")
    assert len(document["groups"]) == document["found_groups"] == 1001
    assert [image["path"] for image in document["groups"][1000]["images"]] == ["photos/a.jpg", "photos/b c.jpg"]


def test_duplicates_that_are_not_there_or_fail(
    settings: Settings, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(client, "maintenance"):
        thread = find_duplicates(settings, client, count=0)
        assert run(["duplicates"]) == 0
        thread.join()
        assert "None of 1,500 pictures is there twice" in capsys.readouterr().err
        client.redis.delete(*client.redis.keys("imagesearch:duplicates:*"))
        thread = find_duplicates(settings, client, error="The disk is full.")
        assert run(["duplicates", "--json"]) == 1
        thread.join()
    assert json_of(capsys) == {"error": "The disk is full."}


def test_duplicates_without_a_maintenance_worker_fails_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["duplicates"]) == 3
    assert "No maintenance worker is running" in capsys.readouterr().err
    assert run(["duplicates", "--min-score", "0.1"]) == 2


# --- the store -----------------------------------------------------------------------------------------------


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
        assert file["paths"].asstr()[:].tolist() == ["photos/a.jpg"]
    capsys.readouterr()
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
    assert client.queues().maintenance == 1


def test_weights_reports_what_will_be_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["weights", "--json"]) == 0
    assert json_of(capsys)["trained"] is False
    monkeypatch.setenv("IMAGESEARCH_WEIGHTS", str(settings.data_dir / "none.h5"))
    assert run(["weights"]) == 1
    assert "does not exist" in capsys.readouterr().err


# --- programs ------------------------------------------------------------------------------------------------


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """Records what the process would have become."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    def execve(_: str, command: list[str], environment: dict[str, str]) -> None:
        calls.append((command, environment))

    monkeypatch.setattr("common.cli.services.os.execve", execve)
    return calls


def test_a_query_worker_has_threads(settings: Settings, become: list[Any]) -> None:
    assert run(["worker", "--queues", "query", "--wait-for-weights"]) == 0
    command, environment = become[0]
    assert command[:6] == [sys.executable, "-m", "celery", "-A", "workers.app", "worker"]
    assert command[command.index("--pool") + 1 : command.index("--pool") + 4] == ["threads", "--concurrency", "32"]
    assert command[command.index("--queues") + 1] == environment["IMAGESEARCH_WORKER_QUEUES"] == "query"
    assert environment["IMAGESEARCH_WORKER_WAIT_FOR_WEIGHTS"] == "1"
    assert environment["IMAGESEARCH_REDIS_URL"] == settings.redis_url
    assert "IMAGESEARCH_WORKER_PROCESSES" not in environment


def test_a_bulk_worker_has_processes(become: list[Any]) -> None:
    assert run(["worker", "--queues", "bulk,maintenance", "--concurrency", "2"]) == 0
    command, environment = become[0]
    assert command[command.index("--pool") + 1 : command.index("--pool") + 4] == ["prefork", "--concurrency", "2"]
    assert environment["IMAGESEARCH_WORKER_QUEUES"] == "bulk,maintenance"
    assert "IMAGESEARCH_WORKER_WAIT_FOR_WEIGHTS" not in environment
    assert environment["IMAGESEARCH_WORKER_PROCESSES"] == "2"


@pytest.mark.parametrize("queues", ["query,bulk", "celery", "", "maintenance,query"])
def test_queues_that_do_not_go(queues: str, become: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["worker", "--queues", queues]) == 2
    assert "--queues" in capsys.readouterr().err
    assert become == []


def test_web_becomes_the_web_tier(become: list[Any]) -> None:
    assert run(["web", "--port", "8123"]) == 0
    assert become[0][0] == [sys.executable, "-m", "web", "--host", "127.0.0.1", "--port", "8123"]


def test_status_shows_the_observed_recall(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    RecallBoard(client.redis).add(199, 200)
    assert run(["status"]) == 0
    assert "recall     99.5% of the ten best" in capsys.readouterr().out
