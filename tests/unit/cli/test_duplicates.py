"""Near-duplicates on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.cli.app import run
from common.jobs import Client
from common.settings import Settings
from tests.unit.cli.conftest import Terminal
from tests.unit.cli.players import duplicates_found, json_of


def test_duplicates_prints_a_table(settings: Settings, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    with duplicates_found(settings, client):
        assert run(["duplicates"]) == 0
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
    with duplicates_found(settings, client, count=1001):
        assert run(["duplicates", "--min-score", "0.9", "--folder", str(library), "--json"]) == 0
    document = json_of(capsys)
    assert (document["state"], document["min_score"], document["folder"]) == ("done", 0.9, "photos")
    assert len(document["groups"]) == document["found_groups"] == 1001
    assert [image["path"] for image in document["groups"][1000]["images"]] == ["photos/a.jpg", "photos/b c.jpg"]


def test_duplicates_that_are_not_there_or_fail(
    settings: Settings, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    with duplicates_found(settings, client, count=0):
        assert run(["duplicates"]) == 0
    assert "None of 1,500 pictures is there twice" in capsys.readouterr().err
    client.redis.flushall()
    with duplicates_found(settings, client, error="The disk is full."):
        assert run(["duplicates", "--json"]) == 1
    assert json_of(capsys) == {"error": "The disk is full."}


def test_duplicates_without_a_maintenance_worker_fails_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["duplicates"]) == 3
    assert "No maintenance worker is running" in capsys.readouterr().err
    assert run(["duplicates", "--min-score", "0.1"]) == 2


def test_what_an_earlier_search_has_found_can_be_shown_again(
    settings: Settings, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    with duplicates_found(settings, client):
        assert run(["duplicates", "--json"]) == 0
    first = json_of(capsys)
    assert run(["duplicates", "--job", first["id"], "--json"]) == 0  # and no worker is needed
    assert json_of(capsys) == first
    assert run(["duplicates", "--job", first["id"], "--min-score", "0.9"]) == 2
    assert run(["duplicates", "--job", "unknown"]) == 1


def test_a_terminal_shows_duplicates_with_links(
    settings: Settings, client: Client, library: Path, terminal: Terminal
) -> None:
    (library / "b c.jpg").write_bytes(b"here")
    with duplicates_found(settings, client):
        assert terminal.run("duplicates") == 0
    shown = terminal.text()
    assert f"{library}/b%20c.jpg\x1b\\" in shown
    assert f"{library}/a.jpg" not in shown
