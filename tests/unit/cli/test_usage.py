"""Help, wrong use, errors, and their exit codes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import click
import pytest

from common import __version__
from common.cli.app import cli, run
from common.cli.commands import Command
from tests.unit.cli.conftest import Terminal
from tests.unit.cli.players import json_of

COMMANDS = sorted(cli.commands)


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    heavy = ("pydantic", "redis", "celery", "h5py", "numpy", "rich", "PIL", "urllib.request")
    code = (
        "import sys\nfrom common.cli.app import run\nassert run(['--help']) == 0\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    commands = "up worker web index watch query jobs retry pause resume cancel status export verify compact weights"
    commands += " duplicates completion"
    assert sorted(commands.split()) == COMMANDS
    for name in commands.split():
        assert f"\n  {name} " in done.stdout


def test_help_groups_the_commands_by_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    titles = ["\nRun:\n", "\nSearch:\n", "\nIndex:\n", "\nThe collection:\n", "\nThe shell:\n"]
    places = [out.index(title) for title in titles]
    assert places == sorted(places)
    assert places[1] < out.index("\n  query ") < out.index("\n  duplicates ") < places[2]
    assert "\x1b" not in out
    assert "..." not in out[places[0] :]  # everything is said in one line
    # All descriptions begin in the same column.
    lines = [line for line in out[places[0] :].splitlines() if line.startswith("  ")]
    assert len({len(line) - len(line[2:].split(maxsplit=1)[1]) for line in lines}) == 1


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"imagesearch {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_can_be_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    out = capsys.readouterr().out
    one = cli.commands[name]
    assert isinstance(one, Command)
    assert "Examples:\n" in out
    assert max(map(len, out.splitlines())) <= 100
    for what, line in one.examples:
        assert f"  {what}:\n    {line}\n" in out
        check_example(name, line)


def check_example(name: str, line: str) -> None:
    """What stands behind the name must be options and arguments that the command knows."""
    words = shlex.split(line.replace('"$(', "").replace(')"', ""))
    arguments = words[words.index("imagesearch") + 1 :]
    assert arguments.pop(0) == name
    if "|" in arguments:
        arguments = arguments[: arguments.index("|")]
    command = cli.commands[name]
    with click.Context(command, info_name=name) as context:
        command.parse_args(context, arguments)


def test_headings_are_bold_on_a_terminal(terminal: Terminal) -> None:
    assert terminal.run("status", "--help") == 0
    assert "\x1b[1mExamples:\x1b[0m" in terminal.text()


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["query"], ["jobs", "--what"], ["query", "missing.jpg"]])
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert "Usage: imagesearch" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["statsu"], "Did you mean status?"),
        (["dup"], "Did you mean up?"),
        (["search", "photo.jpg"], "Did you mean query?"),
        (["help"], "Did you mean --help?"),
        (["jobs", "--jsn"], "--json"),
        (["query", "a.jpg", "--thumbnails", "png"], "'blocks'"),
    ],
)
def test_wrong_use_says_what_may_have_been_meant(
    typed: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed) == 2
    assert meant in capsys.readouterr().err


def test_a_wrong_command_is_not_guessed_at_any_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nonsense"]) == 2
    err = capsys.readouterr().err
    assert "No such command 'nonsense'.\n" in err
    assert "`imagesearch --help` says more" in err


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


@pytest.mark.parametrize(("no_color", "shown"), [("", "\x1b[31mError:\x1b[0m "), ("1", "Error: ")])
def test_errors_are_red_on_a_terminal(
    no_color: str, shown: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    assert terminal.run("jobs", "unknown") == 1
    assert terminal.text().startswith(f"{shown}No index job unknown is known.")
