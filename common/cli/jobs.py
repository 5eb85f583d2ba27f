"""Commands about index jobs that are there: `jobs`, `pause`, `resume`, `cancel`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from common.cli.commands import command
from common.cli.completion import complete_job
from common.cli.indexing import follow, make_client, name_failed, outcome, wait_option
from common.cli.output import STATE_STYLES, Styled, json_option, print_json, print_table, styled_state

if TYPE_CHECKING:
    from common.jobs import Client
    from common.messages import FileError, IndexJob

_ENDED = frozenset({"done", "cancelled", "failed"})


@command(
    ("The latest jobs", "imagesearch jobs"),
    ("One of them, with the files that failed", "imagesearch jobs 20260131-120000-a1b2c3"),
    ("Watch one until it has ended", "imagesearch jobs 20260131-120000-a1b2c3 --wait"),
    ("The reasons of failed files, for a script", "imagesearch jobs 20260131-120000-a1b2c3 --json | jq .errors"),
)
@click.argument("job_id", metavar="[ID]", required=False, shell_complete=complete_job())
@wait_option
@json_option
def jobs(job_id: str | None, wait: bool, as_json: bool) -> int:
    """List the latest index jobs, or show that of ID with what failed."""
    if wait and job_id is None:
        raise click.UsageError("--wait needs the ID of a job; `imagesearch jobs` lists them.")
    client = make_client()
    with client.redis:
        if job_id is None:
            _print_jobs(client.jobs(), as_json=as_json)
            return 0
        job = client.job(job_id)
        if wait:
            job = follow(client, job)
        errors = client.job_errors(job_id)
    if as_json:
        print_json(job.model_dump(mode="json") | {"errors": [error.model_dump(mode="json") for error in errors]})
    elif wait:
        name_failed(errors, job.id)
    else:
        _print_job(job, errors)
    return outcome(job) if wait else 0


@command(("Let other work go first", "imagesearch pause 20260131-120000-a1b2c3"))
@click.argument("job_id", metavar="ID", shell_complete=complete_job(lambda job: job.state in {"scanning", "running"}))
@json_option
def pause(job_id: str, as_json: bool) -> None:
    """Pause an index job: what runs is finished, no more is begun."""
    _control(job_id, lambda client: client.pause_job(job_id), as_json=as_json)


@command(("Go on", "imagesearch resume 20260131-120000-a1b2c3"))
@click.argument("job_id", metavar="ID", shell_complete=complete_job(lambda job: job.state == "paused"))
@json_option
def resume(job_id: str, as_json: bool) -> None:
    """Go on with a paused index job."""
    _control(job_id, lambda client: client.resume_job(job_id), as_json=as_json)


@command(("Index no further", "imagesearch cancel 20260131-120000-a1b2c3"))
@click.argument("job_id", metavar="ID", shell_complete=complete_job(lambda job: job.state not in _ENDED))
@json_option
def cancel(job_id: str, as_json: bool) -> None:
    """End an index job; what is indexed stays."""
    _control(job_id, lambda client: client.cancel_job(job_id), as_json=as_json)


def _control(job_id: str, action: Callable[[Client], IndexJob], *, as_json: bool) -> None:
    client = make_client()
    with client.redis:
        job = action(client)
    if as_json:
        print_json(job.model_dump(mode="json"))
    else:
        print(f"Job {job_id} is {job.state}.")


def _print_jobs(jobs: list[IndexJob], *, as_json: bool) -> None:
    if as_json:
        print_json([job.model_dump(mode="json") for job in jobs])
    elif jobs:
        headers = ("id", "state", "done", "failed", "total", "unchanged", "left", "folder")
        print_table(headers, [_row(job) for job in jobs])
    else:
        print("No index jobs are known. Start one with: imagesearch index DIR")


def _row(job: IndexJob) -> tuple[object, ...]:
    from common.terminal import duration

    left = duration(job.eta_seconds) if job.eta_seconds is not None else ""
    failed = Styled(job.failed, "red" if job.failed else "")
    state = styled_state(_shown_state(job))
    return job.id, state, job.done, failed, job.total, job.unchanged, left, job.folder


def _shown_state(job: IndexJob) -> str:
    return "interrupted" if job.is_interrupted else job.state


def _print_job(job: IndexJob, errors: list[FileError]) -> None:
    from common.messages import FINAL_JOB_STATES
    from common.terminal import duration, printable, progress_line, summary_line, tinted

    state = _shown_state(job)
    print(f"{job.id}  {tinted(state, STATE_STYLES[state], sys.stdout)}")
    print(printable(summary_line(job) if job.state in FINAL_JOB_STATES else progress_line(job)))
    times = f"started {_local(job.started_at)}"
    if job.finished_at is not None:
        took = duration((job.finished_at - job.started_at).total_seconds())
        times += f", ended {_local(job.finished_at)} after {took}"
    print(times)
    for error in errors:
        print(printable(f"  {error.path}: {error.error}"))


def _local(when: datetime) -> str:
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}"
