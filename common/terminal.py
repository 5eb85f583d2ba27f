"""What the command line prints: plain tables, amounts, and the progress of an index job."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from common.messages import FINAL_JOB_STATES, IndexJob

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_EVERY_SECONDS = 5.0


def printable(text: str) -> str:
    """The text with control characters and undecodable bytes escaped: file names may hold anything."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns in a row, numbers to the right; the last column is never cut, so that it can be copied."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[number]) for row in [list(headers), *cells]) for number in range(len(headers))]
    right = [bool(rows) and isinstance(rows[0][number], int | float) for number in range(len(headers))]

    def line(row: Sequence[str]) -> str:
        parts = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        return "  ".join(parts).rstrip()

    return "\n".join(line(row) for row in [headers, *cells])


def duration(seconds: float) -> str:
    """A time for people, such as `2 h 5 min` or `40 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def progress_line(job: IndexJob) -> str:
    """The state of a job in one line."""
    if job.state == "scanning":
        return f"{job.folder}: looking for pictures, {job.found:,} found so far"
    parts = [f"{job.folder}: {job.done + job.failed:,} of {job.total:,} pictures"]
    if job.failed:
        parts.append(f"{job.failed:,} failed")
    if job.rate:
        parts.append(f"{job.rate:.1f} a second")
    if job.eta_seconds is not None:
        parts.append(f"{duration(job.eta_seconds)} left")
    return ", ".join(parts) + (" (paused)" if job.state == "paused" else "")


def summary_line(job: IndexJob) -> str:
    """What became of a job that has ended."""
    if job.is_interrupted:
        return f"{job.folder}: {job.error}"
    if job.state == "failed":
        return f"{job.folder}: failed. {job.error or ''}".rstrip()
    if job.state == "cancelled":
        return f"{job.folder}: cancelled. {job.done:,} pictures were indexed before that, and stay."
    parts = [f"{job.done:,} new" + (f" ({job.duplicates:,} with a known content)" if job.duplicates else "")]
    parts.append(f"{job.unchanged:,} unchanged")
    if job.removed:
        parts.append(f"{job.removed:,} removed")
    if job.failed:
        parts.append(f"{job.failed:,} could not be indexed (list them: imagesearch jobs {job.id})")
    return f"{job.folder}: indexed, {job.found:,} pictures: {', '.join(parts)}."


class JobProgress:
    """Shows an index job as it goes: a bar on a terminal, else a line every few seconds.

    Args:
        stream: Where to, such as `sys.stderr`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Progress | None = None
        self._last_line = (0.0, "")

    def show(self, job: IndexJob) -> None:
        """Shows the job's new state; its last one ends the display with a summary."""
        if job.state in FINAL_JOB_STATES:
            self.close()
            print(summary_line(job), file=self._stream, flush=True)
        elif self._stream.isatty():
            self._show_bar(job)
        else:
            self._show_line(job)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show_line(self, job: IndexJob) -> None:
        line, now = progress_line(job), time.monotonic()
        if line != self._last_line[1] and now - self._last_line[0] >= LINE_EVERY_SECONDS:
            print(printable(line), file=self._stream, flush=True)
            self._last_line = (now, line)

    def _show_bar(self, job: IndexJob) -> None:
        if self._bar is None:
            self._bar = _make_bar(self._stream)
            self._bar.add_task("", total=None, details="")
            self._bar.start()
        ready = job.state != "scanning"
        self._bar.update(
            self._bar.task_ids[0],
            total=job.total if ready else None,
            completed=job.done + job.failed,
            details=printable(progress_line(job)),
        )


class Counter:
    """Shows how far some work is: a bar on a terminal, else a line every few seconds.

    Args:
        stream: Where to, such as `sys.stderr`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Progress | None = None
        self._last = -LINE_EVERY_SECONDS

    def show(self, done: int, total: int, what: str) -> None:
        """Shows the new state; a total of 0 is not known yet."""
        line = f"{what}: {done:,} of {total:,}" if total else what
        now = time.monotonic()
        if self._stream.isatty():
            if self._bar is None:
                self._bar = _make_bar(self._stream)
                self._bar.add_task("", total=None, details="")
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], total=total or None, completed=done, details=line)
        elif now - self._last >= LINE_EVERY_SECONDS:
            print(line, file=self._stream, flush=True)
            self._last = now

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _make_bar(stream: TextIO) -> Progress:
    # Imported here: most commands never need it, and it costs a tenth of a second.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (BarColumn(bar_width=28), TaskProgressColumn(), TextColumn("{task.fields[details]}", markup=False))
    return Progress(*columns, console=Console(file=stream), transient=True)


class DownloadProgress:
    """Says every few seconds how far a download is.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = 0.0

    def __call__(self, received: int, total: int) -> None:
        """Takes the bytes so far, and in all (0 if unknown)."""
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_SECONDS or received == total:
            self._last = now
            of = f" of {total / 1e6:,.0f}" if total else ""
            print(f"Downloading the model's weights: {received / 1e6:,.0f}{of} MB", file=self._stream, flush=True)


def note(text: str) -> None:
    """Prints a line for the person at the terminal, on standard error, so that output stays clean."""
    print(text, file=sys.stderr, flush=True)
