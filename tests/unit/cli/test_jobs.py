"""Index jobs on the command line: begun, followed, listed, controlled, watched."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from common.cli.app import run
from common.jobs import Client
from common.journal import JobJournal
from common.progress import JobBoard
from common.settings import Settings
from tests.unit.cli.conftest import Terminal
from tests.unit.cli.players import awaited, json_of, meanwhile, worker


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
        jobs = awaited(client.jobs)
        plan = board.start_plan(jobs[0].id)
        board.add(jobs[0].id, {"found": 3, "total": 3})
        board.finish_scan(jobs[0].id, plan)
        board.finish_batch(jobs[0].id, plan, "1", done=2, failed={"photos/odd\x1b.jpg": "Damaged."}, duplicates=0)

    with worker(client, "bulk"), meanwhile(work):
        assert run(["index", str(library), "--wait", "--json"]) == 0
    captured = capsys.readouterr()
    job = json.loads(captured.out)
    assert (job["state"], job["done"], job["failed"]) == ("done", 2, 1)
    assert f"1 could not be indexed (list them: imagesearch jobs {job['id']})" in captured.err
    assert "photos/odd\\x1b.jpg: Damaged." in captured.err


def test_index_wait_is_exit_code_1_if_the_job_is_cancelled(
    client: Client, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        jobs = awaited(client.jobs)
        client.cancel_job(jobs[0].id)

    with meanwhile(work):
        assert run(["index", str(library), "--wait"]) == 1
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
        awaited(client.jobs)
        os.kill(os.getpid(), signal.SIGTERM)

    with meanwhile(stop):
        assert run(["watch", str(library)]) == 0
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


def test_jobs_wait_follows_a_job_that_is_there(
    client: Client, board: JobBoard, capsys: pytest.CaptureFixture[str]
) -> None:
    job = client.submit_index_job("photos")

    def work() -> None:
        plan = board.start_plan(job.id)
        assert plan is not None
        board.add(job.id, {"found": 2, "total": 2})
        board.finish_scan(job.id, plan)
        board.finish_batch(job.id, plan, "1", done=1, failed={"photos/odd.jpg": "Damaged."}, duplicates=0)

    with worker(client, "bulk"), meanwhile(work):
        assert run(["jobs", job.id, "--wait"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "photos: indexed, 2 pictures: 1 new" in captured.err
    assert "photos/odd.jpg: Damaged." in captured.err
    assert run(["jobs", job.id, "--wait", "--json"]) == 0
    assert json_of(capsys)["errors"] == [{"path": "photos/odd.jpg", "error": "Damaged."}]


def test_jobs_wait_needs_a_job_and_tells_how_it_ended(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs", "--wait"]) == 2
    assert "--wait needs the ID" in capsys.readouterr().err
    job = client.submit_index_job("photos")
    client.cancel_job(job.id)
    assert run(["jobs", job.id, "--wait"]) == 1
    assert run(["jobs", job.id]) == 0


def test_a_terminal_shows_jobs_in_colours(client: Client, board: JobBoard, terminal: Terminal) -> None:
    failed, paused = (client.submit_index_job("photos") for _ in range(2))
    board.add(failed.id, {"failed": 1}, {"photos/a.jpg": "The file is empty."})
    client.cancel_job(failed.id)
    client.pause_job(paused.id)
    assert terminal.run("jobs") == 0
    assert terminal.run("jobs", paused.id) == 0
    lines = terminal.text().splitlines()
    assert lines[0].startswith("\x1b[1mid ")
    assert lines[1].startswith(f"{paused.id}  \x1b[33mpaused\x1b[0m")
    assert lines[2].startswith(f"{failed.id}  \x1b[2mcancelled\x1b[0m")
    assert "\x1b[31m1\x1b[0m" in lines[2]
    assert lines[3] == f"{paused.id}  \x1b[33mpaused\x1b[0m"


def test_a_terminal_shows_a_bar_with_rate_and_time_left(
    client: Client, board: JobBoard, library: Path, terminal: Terminal
) -> None:
    def work() -> None:
        job = awaited(client.jobs)[0]
        plan = board.start_plan(job.id)
        assert plan is not None
        board.add(job.id, {"found": 100, "total": 100})
        board.finish_scan(job.id, plan)
        now = 1_700_000_000
        client.redis.rpush(f"imagesearch:job:{job.id}:samples", f"{now} 0", f"{now + 8} 40")
        client.redis.hset(f"imagesearch:job:{job.id}", "done", 40)
        awaited(lambda: "12 s left" in terminal.so_far())
        client.cancel_job(job.id)

    with worker(client, "bulk"), meanwhile(work):
        assert terminal.run("index", str(library), "--wait") == 1
    shown = terminal.text()
    assert "40 of 100, 5.0/s, 12 s left" in shown
    assert "40%" in shown
    # The bar is taken away, and what remains is one line.
    assert shown.rpartition("\x1b[2K")[2].strip() == (
        "photos: cancelled. 40 pictures were indexed before that, and stay."
    )


def test_watch_shows_on_a_terminal_how_far_its_jobs_are(
    client: Client, board: JobBoard, library: Path, terminal: Terminal
) -> None:
    def work() -> None:
        job = awaited(client.jobs)[0]
        plan = board.start_plan(job.id)
        assert plan is not None
        board.add(job.id, {"found": 10, "total": 10})
        board.finish_scan(job.id, plan)
        awaited(lambda: "0 of 10" in terminal.so_far())
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(work):
        assert terminal.run("watch", str(library)) == 0
    job = client.jobs()[0]
    assert job.state == "running"
    assert terminal.text().endswith(
        f"The job goes on without this command. Follow it: imagesearch jobs {job.id} --wait\n"
        f"End it: imagesearch cancel {job.id}\n"
    )


def test_ctrl_c_ends_only_the_waiting_and_says_how_to_go_on(
    client: Client, board: JobBoard, library: Path, terminal: Terminal
) -> None:
    process = terminal.start("index", str(library), "--wait")
    try:
        job = awaited(client.jobs)[0]
        awaited(lambda: "looking for pictures" in terminal.so_far())
        terminal.type(b"\x03")
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    assert client.job(job.id).state == "scanning"
    assert terminal.text().endswith(
        f"Follow it: imagesearch jobs {job.id} --wait\nEnd it: imagesearch cancel {job.id}\n\nInterrupted.\n"
    )
