"""What the command line prints: words in colour, amounts, and the progress of what takes long."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, TextIO

from common.messages import FINAL_JOB_STATES, IndexJob

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

LINE_EVERY_SECONDS = 5.0

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
# Below this width a bar is short, so that the figures beside it have room.
_WIDE = 100


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at the stream on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}


def tinted(text: str, style: str, stream: TextIO) -> str:
    """The text as it shows on the stream: with colour on a terminal, plain elsewhere and where NO_COLOR is set.

    Args:
        text: The text.
        style: A colour, `bold` or `dim`.
        stream: Where it will be printed.
    """
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def printable(text: str) -> str:
    """The text with control characters and undecodable bytes escaped: file names may hold anything."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


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


class _Display:
    """Shows how far something is: a bar on a terminal, which goes away in the end; else a line now and then.

    Args:
        stream: Where to, such as `sys.stderr`.
    """

    # What part of the terminal's width the name before the bar may take.
    _name_part = 0.5

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Progress | None = None
        self._last_line = (-LINE_EVERY_SECONDS, "")

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show_bar(self, done: int, total: int, name: str, details: str) -> None:
        if self._bar is None:
            self._bar = _make_bar(self._stream, self._figures(), self._name_part)
            self._bar.add_task("", total=None, name="", details="")
            self._bar.start()
        task = self._bar.task_ids[0]
        self._bar.update(task, total=total or None, completed=done, name=printable(name), details=printable(details))

    def _show_line(self, line: str) -> None:
        now = time.monotonic()
        if line != self._last_line[1] and now - self._last_line[0] >= LINE_EVERY_SECONDS:
            print(printable(line), file=self._stream, flush=True)
            self._last_line = (now, line)

    def _figures(self) -> list[ProgressColumn]:
        """What stands between the bar and the details."""
        from rich.progress import TaskProgressColumn

        return [TaskProgressColumn()]


class JobProgress(_Display):
    """Shows an index job as it goes."""

    _name_part = 0.25

    def show(self, job: IndexJob) -> None:
        """Shows the job's new state; its last one ends the display with a summary."""
        if job.state in FINAL_JOB_STATES:
            self.close()
            print(printable(summary_line(job)), file=self._stream, flush=True)
        elif is_terminal(self._stream):
            total = 0 if job.state == "scanning" else job.total
            self._show_bar(job.done + job.failed, total, job.folder, _job_figures(job))
        else:
            self._show_line(progress_line(job))


class Counter(_Display):
    """Shows how far some work is; a total of 0 is not known yet."""

    def show(self, done: int, total: int, what: str) -> None:
        """Shows the new state."""
        if is_terminal(self._stream):
            self._show_bar(done, total, what, f"{done:,} of {total:,}" if total else "")
        else:
            self._show_line(f"{what}: {done:,} of {total:,}" if total else what)

    def _figures(self) -> list[ProgressColumn]:
        from rich.progress import TaskProgressColumn, TimeRemainingColumn

        return [TaskProgressColumn(), TimeRemainingColumn(compact=True)]


class DownloadProgress(_Display):
    """Shows how far a download is."""

    _WHAT = "Downloading the model's weights"

    def __call__(self, received: int, total: int) -> None:
        """Takes the bytes so far, and in all (0 if unknown)."""
        ended = received == total
        if is_terminal(self._stream):
            self._show_bar(received, total, self._WHAT, "")
        if ended:
            self.close()
            self._last_line = (-LINE_EVERY_SECONDS, "")
        if ended or not is_terminal(self._stream):
            of = f" of {total / 1e6:,.0f}" if total else ""
            self._show_line(f"{self._WHAT}: {received / 1e6:,.0f}{of} MB")

    def _figures(self) -> list[ProgressColumn]:
        from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

        return [DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True)]


def _job_figures(job: IndexJob) -> str:
    """What stands beside the bar of a job: short, since a terminal may be narrow."""
    if job.state == "scanning":
        return f"looking for pictures, {job.found:,} found"
    parts = [f"{job.done + job.failed:,} of {job.total:,}"]
    if job.failed:
        parts.append(f"{job.failed:,} failed")
    if job.rate:
        parts.append(f"{job.rate:.1f}/s")
    if job.state == "paused":
        parts.append("paused")
    elif job.eta_seconds is not None:
        parts.append(f"{duration(job.eta_seconds)} left")
    return ", ".join(parts)


def _make_bar(stream: TextIO, figures: list[ProgressColumn], name_part: float) -> Progress:
    # Imported here: most commands never need it, and it costs a tenth of a second.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    console = Console(file=stream)
    wide = console.width >= _WIDE
    name = Column(no_wrap=True, overflow="ellipsis", max_width=int(console.width * name_part))
    details = Column(no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.fields[name]}", markup=False, table_column=name),
        BarColumn(bar_width=28 if wide else 12),
        *figures,
        TextColumn("{task.fields[details]}", markup=False, table_column=details),
        console=console,
        transient=True,
        # What goes to a file or a pipe meanwhile must get there, and not onto this terminal.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=sys.stderr.isatty(),
    )


def note(text: str, style: str | None = None) -> None:
    """Prints a line for the person at the terminal, on standard error, so that output stays clean.

    Args:
        text: The line.
        style: As for `tinted`.
    """
    print(tinted(text, style, sys.stderr) if style else text, file=sys.stderr, flush=True)
