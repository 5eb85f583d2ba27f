"""What the command line prints."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from typing import Any

import pytest

from common import terminal
from common.messages import IndexJob
from common.terminal import (
    Counter,
    DownloadProgress,
    JobProgress,
    duration,
    printable,
    progress_line,
    summary_line,
    table,
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def job(state: Any = "running", **fields: Any) -> IndexJob:
    return IndexJob(id="7", folder="photos", state=state, started_at=datetime.now(timezone.utc), **fields)


def test_a_table_aligns_numbers_and_never_cuts_paths() -> None:
    rows = [(1, "0.9", "photos/a.jpg"), (10, "0.85", "photos/" + "b" * 200 + ".jpg")]
    lines = table(("rank", "score", "path"), rows).splitlines()
    assert lines[:2] == ["rank  score  path", "   1  0.9    photos/a.jpg"]
    assert lines[2].startswith("  10  0.85   photos/bbb")
    assert lines[2].endswith("b.jpg")


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("a\x1b[2Jb\n\udcff é 写真") == "a\\x1b[2Jb\\n\\udcff é 写真"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (100, "1 min 40 s"), (7500, "2 h 5 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_lines() -> None:
    assert progress_line(job("scanning", found=1234)) == "photos: looking for pictures, 1,234 found so far"
    running = job(total=100, done=40, failed=2, rate=5.25, eta_seconds=11.0)
    assert progress_line(running) == "photos: 42 of 100 pictures, 2 failed, 5.2 a second, 11 s left"
    assert progress_line(job("paused", total=3)).endswith("(paused)")


def test_summary_lines() -> None:
    done = job("done", found=7, total=4, done=3, failed=1, duplicates=1, unchanged=3, removed=2)
    assert summary_line(done) == (
        "photos: indexed, 7 pictures: 3 new (1 with a known content), 3 unchanged, 2 removed, "
        "1 could not be indexed (list them: imagesearch jobs 7)."
    )
    assert summary_line(job("failed", error="No space left.")) == "photos: failed. No space left."
    assert "cancelled" in summary_line(job("cancelled", done=2))


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    progress = JobProgress(stream)
    for done in range(3):
        progress.show(job(total=3, done=done))
    monkeypatch.setattr(terminal, "LINE_EVERY_SECONDS", 0.0)
    progress.show(job(total=3, done=2))
    progress.show(job("done", total=3, done=3, found=3))
    assert stream.getvalue().splitlines() == [
        "photos: 0 of 3 pictures",
        "photos: 2 of 3 pictures",
        "photos: indexed, 3 pictures: 3 new, 0 unchanged.",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    progress = JobProgress(stream)
    progress.show(job("scanning", found=1))
    progress.show(job(total=4, done=3, rate=2.0, eta_seconds=1))
    progress.close()
    assert "75%" in stream.getvalue()
    assert "photos: 3 of 4 pictures, 2.0 a second, 1 s left" in stream.getvalue()
    progress.show(job("done", total=4, done=4, found=4))
    assert stream.getvalue().endswith("photos: indexed, 4 pictures: 4 new, 0 unchanged.\n")


def test_a_download_is_told_now_and_then() -> None:
    stream = io.StringIO()
    progress = DownloadProgress(stream)
    for received in (1_000_000, 2_000_000, 500_000_000):
        progress(received, 500_000_000)
    assert stream.getvalue().splitlines() == [
        "Downloading the model's weights: 1 of 500 MB",
        "Downloading the model's weights: 500 of 500 MB",
    ]


def test_a_counter_is_a_bar_on_a_terminal_and_goes_away() -> None:
    stream = Terminal()
    counter = Counter(stream)
    counter.show(0, 0, "comparing")
    counter.show(1500, 3000, "comparing")
    counter.close()
    assert "comparing: 1,500 of 3,000" in stream.getvalue()
    assert "50%" in stream.getvalue()
    counter.close()


def test_a_counter_is_a_line_now_and_then_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, now = io.StringIO(), 100.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    counter = Counter(stream)
    counter.show(0, 0, "waiting")
    counter.show(1, 10, "comparing")
    now += terminal.LINE_EVERY_SECONDS
    counter.show(2, 10, "comparing")
    counter.close()
    assert stream.getvalue().splitlines() == ["waiting", "comparing: 2 of 10"]
