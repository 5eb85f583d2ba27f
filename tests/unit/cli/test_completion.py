"""Completion in the shell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.cli.app import run
from common.jobs import Client
from common.progress import JobBoard
from tests.unit.helpers import REPOSITORY


def completions(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[tuple[str, str, str]]:
    """What the command line answers zsh for a line with the cursor at its end: kind, word, help."""
    words = line.split(" ")
    monkeypatch.setenv("_IMAGESEARCH_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit) as ended:
        run([])
    assert ended.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.strip().splitlines()
    return list(zip(lines[::3], lines[1::3], lines[2::3], strict=True))


def test_bash_completes_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    program = tmp_path / "imagesearch"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m common.cli "$@"\n')
    program.chmod(0o755)
    typed = (
        f'source "{script}"; complete -p imagesearch >/dev/null || exit 9\n'
        f'COMP_WORDS=(imagesearch dup); COMP_CWORD=1; _imagesearch_completion "{program}"; echo "${{COMPREPLY[*]}}"\n'
        f'COMPREPLY=(); COMP_WORDS=(imagesearch query --th); COMP_CWORD=2; _imagesearch_completion "{program}"\n'
        'echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", typed], capture_output=True, text=True, cwd=REPOSITORY, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["duplicates", "--thumbnails"]


@pytest.mark.parametrize(("shell", "sign"), [("zsh", "#compdef imagesearch"), ("fish", "complete --no-files")])
def test_other_shells_have_scripts(shell: str, sign: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    captured = capsys.readouterr()
    assert sign in captured.out
    assert captured.err == ""


def test_an_unknown_shell_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "csh"]) == 2
    assert "'fish'" in capsys.readouterr().err


def test_job_ids_are_those_the_command_can_do_something_with(
    client: Client, board: JobBoard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running, paused, failed = (client.submit_index_job("photos").id for _ in range(3))
    client.pause_job(paused)
    board.add(failed, {"failed": 1}, {"photos/a.jpg": "The file is empty."})
    client.cancel_job(failed)

    def ids(line: str) -> set[str]:
        return {word for _, word, _ in completions(line, monkeypatch, capsys)}

    assert ids("imagesearch jobs ") == {running, paused, failed}
    assert ids("imagesearch pause ") == {running}
    assert ids("imagesearch resume ") == {paused}
    assert ids("imagesearch cancel ") == {running, paused}
    assert ids("imagesearch retry ") == {failed}
    assert ids(f"imagesearch jobs {paused}") == {paused}
    assert completions("imagesearch resume ", monkeypatch, capsys) == [("plain", paused, "paused photos")]


def test_folders_are_those_of_the_library_or_of_this_machine(
    library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("shop/shoes", "shop/shirts", "trips", ".hidden"):
        (library / name).mkdir(parents=True)

    def folders(typed: str) -> list[str]:
        return [word for _, word, _ in completions(f"imagesearch index {typed}", monkeypatch, capsys)]

    assert folders("ph") == ["photos"]
    assert folders("photos/") == ["photos/shop", "photos/trips"]
    assert folders("photos/shop/sh") == ["photos/shop/shirts", "photos/shop/shoes"]
    assert completions("imagesearch query --folder /us", monkeypatch, capsys) == [("dir", "/us", "_")]
    assert completions("imagesearch index photos/../", monkeypatch, capsys) == [("dir", "photos/../", "_")]
    assert completions("imagesearch query pic", monkeypatch, capsys) == [("file", "pic", "_")]


def test_without_redis_nothing_is_completed_and_nothing_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGESEARCH_REDIS_URL", "redis://127.0.0.1:1/0")
    assert completions("imagesearch jobs ", monkeypatch, capsys) == []
