"""What every page shows of the system, and how templates write numbers and times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

from apiflask import APIFlask
from markupsafe import Markup, escape

from common.errors import ServiceUnavailable
from common.messages import IndexJob, Status, SystemProblem, WorkerInfo
from web.services import ready_workers, services
from web.texts import text


@dataclass(frozen=True)
class Overview:
    """The system at a glance; without a status where Redis is away."""

    status: Status | None
    jobs: list[IndexJob]
    problem: str | None = None

    @property
    def folders(self) -> list[str]:
        """The library's roots and every folder that was indexed, for the choice of a folder."""
        roots = services().client.library.names
        return sorted({*roots, *(job.folder for job in self.jobs)})

    @property
    def untrained(self) -> bool:
        """Whether the model's weights are untrained."""
        return self.status is not None and self.status.trained is False

    @property
    def problems(self) -> list[SystemProblem]:
        """What is wrong at present."""
        return self.status.problems if self.status is not None else []

    @property
    def worker_problem(self) -> str | None:
        """Why no search can be answered now; see `problem_of`."""
        return self.problem_of("query")

    def problem_of(self, queue: str) -> str | None:
        """Why nothing of a queue is done now: `missing`, `loading`, or what its worker waits for."""
        if self.status is None or ready_workers(self.status.workers, queue):
            return None
        there = self.workers(queue)
        return (there[0].detail or "loading") if there else "missing"

    def workers(self, queue: str) -> list[WorkerInfo]:
        """The workers that serve a queue."""
        return [worker for worker in self.status.workers if queue in worker.queues] if self.status else []


def current_overview() -> Overview:
    """The system as it is now."""
    current = services()
    try:
        return Overview(current.status(), current.client.jobs())
    except ServiceUnavailable as error:
        return Overview(None, [], str(error))


def register(app: APIFlask) -> None:
    """Makes the filters known to the templates."""
    app.jinja_env.filters.update(
        thousands=thousands, code_spans=code_spans, duration=duration, seconds_ago=seconds_ago, file_size=file_size
    )


def thousands(value: int) -> str:
    """12345 as 12,345."""
    return f"{value:,}"


def code_spans(shown: str) -> Markup:
    """Escapes a text, and sets what stands in backquotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(shown))))


def duration(seconds: float) -> str:
    """So many seconds as people say it; `dom.js` does the same."""
    if seconds < 60:
        return text("common.seconds", value=max(1, round(seconds)))
    minutes = round(seconds / 60)
    if minutes < 60:
        return text("common.minutes", value=minutes)
    return text("common.hours", hours=minutes // 60, minutes=minutes % 60)


def seconds_ago(moment: datetime) -> int:
    """How long ago it was."""
    return max(0, round((datetime.now(timezone.utc) - moment).total_seconds()))


def file_size(count: int) -> str:
    """So many bytes as people say it; `figures.js` does the same."""
    value, unit = float(count), "B"
    for larger in ("KB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
