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
    tinted,
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def job(state: Any = "running", **fields: Any) -> IndexJob:
    return IndexJob(id="7", folder="photos", state=state, started_at=datetime.now(timezone.utc), **fields)


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
    assert "3 of 4, 2.0/s, 1 s left" in stream.getvalue()
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
    assert "comparing" in stream.getvalue()
    assert "1,500 of 3,000" in stream.getvalue()
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


def test_a_narrow_terminal_shows_the_figures_rather_than_the_whole_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    progress = JobProgress(stream)
    progress.show(
        job(total=123_456, done=60_000, failed=12, rate=43.2, eta_seconds=1500).model_copy(
            update={"folder": "photos/a very long name of a folder"}
        )
    )
    progress.close()
    assert "60,012 of 123,456, 12 failed, 43.2/s, " in stream.getvalue()
    assert "of a folder" not in stream.getvalue()


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    progress = JobProgress(stream)
    progress.show(job(total=4, done=3))
    progress.close()
    assert stream.getvalue() == "photos: 3 of 4 pictures\n"


def test_a_download_on_a_terminal_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    progress = DownloadProgress(stream)
    progress(100_000_000, 500_000_000)
    progress.close()
    assert "100.0/500.0 MB" in stream.getvalue()
    progress(500_000_000, 500_000_000)
    assert stream.getvalue().endswith("Downloading the model's weights: 500 of 500 MB\n")


@pytest.mark.parametrize(
    ("stream", "no_color", "shown"),
    [
        (Terminal(), "", "\x1b[31mno\x1b[0m"),
        (Terminal(), "1", "no"),
        (io.StringIO(), "", "no"),
    ],
)
def test_colours_are_for_terminals(
    stream: io.StringIO, no_color: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    assert tinted("no", "red", stream) == shown
