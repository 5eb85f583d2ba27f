"""Commands about index jobs: `index`, `retry`, `jobs`, `pause`, `resume`, `cancel`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.cli.output import json_option, print_json

if TYPE_CHECKING:
    from common.jobs import Client
    from common.library import Library
    from common.messages import FileError, IndexJob

_POLL_SECONDS = 0.5
_SHOWN_ERRORS = 5

_wait_option = click.option("--wait", is_flag=True, help="Stay until the job has ended, and show its progress.")


@click.command()
@click.argument("folder", metavar="DIR")
@_wait_option
@click.option("--allow-empty", is_flag=True, help="Take all images of DIR out if it holds no pictures any more.")
@json_option
def index(folder: str, wait: bool, allow_empty: bool, as_json: bool) -> int:
    """Index the pictures in DIR, a folder in the library: what is new, changed or gone."""
    return _start(
        lambda client: client.submit_index_job(public_folder(client.library, folder), allow_empty=allow_empty),
        "indexing {}",
        wait=wait,
        as_json=as_json,
    )


@click.command()
@click.argument("job_id", metavar="ID")
@_wait_option
@json_option
def retry(job_id: str, wait: bool, as_json: bool) -> int:
    """Try the failed files of an index job again, as a new job."""
    what = f"trying the failed files of job {job_id} in {{}} again"
    return _start(lambda client: client.retry_job(job_id), what, wait=wait, as_json=as_json)


def _start(submit: Callable[[Client], IndexJob], what: str, *, wait: bool, as_json: bool) -> int:
    """Submits a job, follows it if `wait`, and gives the exit code; `what` says what it does with the folder."""
    from common.messages import FINAL_JOB_STATES

    client = make_client()
    with client.redis:
        job = submit(client)
        errors: list[FileError] = []
        if wait:
            job = _follow(client, job)
            errors = client.job_errors(job.id) if job.failed else []
    if as_json:
        print_json(job.model_dump(mode="json"))
    elif not wait:
        print(f"Job {job.id}: {what.format(job.folder)}. Its state: imagesearch jobs {job.id}")
    _name_failed(errors, job.id)
    return 1 if job.state in FINAL_JOB_STATES - {"done"} else 0


def public_folder(library: Library, text: str) -> str:
    """What a person means by DIR: a folder of this machine, or else the public path of one.

    Raises:
        OutsideLibrary: It is in no library root.
        FolderNotFound: It is neither.
    """
    from common.errors import FolderNotFound, OutsideLibrary

    path = Path(text).expanduser()
    names_a_root = text.strip("/").split("/")[0] in library.names
    if path.is_dir():
        try:
            return library.locate(str(path.absolute())).public
        except OutsideLibrary:
            if path.is_absolute() or not names_a_root:
                raise
    elif not path.is_absolute() and not names_a_root:
        raise FolderNotFound(text)
    return library.locate(text).public


@click.command()
@click.argument("job_id", metavar="ID", required=False)
@json_option
def jobs(job_id: str | None, as_json: bool) -> None:
    """List the latest index jobs, or show the one of ID with the files that failed."""
    client = make_client()
    with client.redis:
        if job_id is None:
            _print_jobs(client.jobs(), as_json=as_json)
        else:
            _print_job(client.job(job_id), client.job_errors(job_id), as_json=as_json)


@click.command()
@click.argument("job_id", metavar="ID")
@json_option
def pause(job_id: str, as_json: bool) -> None:
    """Pause an index job: work that runs is finished, no more is begun."""
    _control(job_id, lambda client: client.pause_job(job_id), as_json=as_json)


@click.command()
@click.argument("job_id", metavar="ID")
@json_option
def resume(job_id: str, as_json: bool) -> None:
    """Go on with a paused index job."""
    _control(job_id, lambda client: client.resume_job(job_id), as_json=as_json)


@click.command()
@click.argument("job_id", metavar="ID")
@json_option
def cancel(job_id: str, as_json: bool) -> None:
    """End an index job; what is indexed stays."""
    _control(job_id, lambda client: client.cancel_job(job_id), as_json=as_json)


def make_client() -> Client:
    """A client with the settings of the environment, or those of the `up` that runs."""
    from common.jobs import Client
    from common.up.run_record import load_settings

    return Client(load_settings())


def _control(job_id: str, action: Callable[[Client], IndexJob], *, as_json: bool) -> None:
    client = make_client()
    with client.redis:
        job = action(client)
    if as_json:
        print_json(job.model_dump(mode="json"))
    else:
        print(f"Job {job_id} is {job.state}.")


def _follow(client: Client, job: IndexJob) -> IndexJob:
    from common.messages import FINAL_JOB_STATES
    from common.terminal import JobProgress, note

    progress = JobProgress(sys.stderr)
    if not any("bulk" in worker.queues for worker in client.workers()):
        note("No bulk worker is running yet: the job waits for one. Start it with: imagesearch worker --queues bulk")
    try:
        while True:
            job = client.job(job.id)
            progress.show(job)
            if job.state in FINAL_JOB_STATES:
                return job
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        progress.close()
        note(f"The job goes on without this command. Its state: imagesearch jobs {job.id}")
        raise
    finally:
        progress.close()


def _name_failed(errors: list[FileError], job_id: str) -> None:
    from common.terminal import note, printable

    for error in errors[:_SHOWN_ERRORS]:
        note(printable(f"  {error.path}: {error.error}"))
    if len(errors) > _SHOWN_ERRORS:
        note(f"  and {len(errors) - _SHOWN_ERRORS:,} more: imagesearch jobs {job_id}")


def _print_jobs(jobs: list[IndexJob], *, as_json: bool) -> None:
    from common.terminal import table

    if as_json:
        print_json([job.model_dump(mode="json") for job in jobs])
    elif jobs:
        rows = [(job.id, _shown_state(job), job.done, job.failed, job.total, job.unchanged, job.folder) for job in jobs]
        print(table(("id", "state", "done", "failed", "total", "unchanged", "folder"), rows))
    else:
        print("No index jobs are known. Start one with: imagesearch index DIR")


def _shown_state(job: IndexJob) -> str:
    return "interrupted" if job.is_interrupted else job.state


def _print_job(job: IndexJob, errors: list[FileError], *, as_json: bool) -> None:
    from common.messages import FINAL_JOB_STATES
    from common.terminal import printable, progress_line, summary_line

    if as_json:
        print_json(job.model_dump(mode="json") | {"errors": [error.model_dump(mode="json") for error in errors]})
        return
    print(f"{job.id}  {_shown_state(job)}")
    print(printable(summary_line(job) if job.state in FINAL_JOB_STATES else progress_line(job)))
    for error in errors:
        print(printable(f"  {error.path}: {error.error}"))
