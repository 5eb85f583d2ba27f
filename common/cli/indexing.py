"""Commands that begin index jobs: `index`, `retry`. And how a job is followed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.cli.commands import command
from common.cli.completion import complete_folder, complete_job
from common.cli.output import json_option, print_json

if TYPE_CHECKING:
    from common.jobs import Client
    from common.library import Library
    from common.messages import FileError, IndexJob

_POLL_SECONDS = 0.5
_SHOWN_ERRORS = 5

wait_option = click.option("--wait", is_flag=True, help="Stay until the job has ended, and show its progress.")


@command(
    ("Index a folder and watch it go", "imagesearch index ~/Pictures/2026 --wait"),
    ("By its name in the library, in the background", "imagesearch index photos/2026"),
)
@click.argument("folder", metavar="DIR", shell_complete=complete_folder)
@wait_option
@click.option("--allow-empty", is_flag=True, help="Take all images of DIR out if it holds no pictures any more.")
@json_option
def index(folder: str, wait: bool, allow_empty: bool, as_json: bool) -> int:
    """Index the pictures in DIR: what is new, changed or gone.

    DIR is a folder in the library: a path of this machine, or its name there such as photos/2026. What is indexed and
    unchanged is left alone, so that a run that was interrupted goes on where it was.
    """
    return _start(
        lambda client: client.submit_index_job(public_folder(client.library, folder), allow_empty=allow_empty),
        "indexing {}",
        wait=wait,
        as_json=as_json,
    )


@command(("Try again what could not be read", "imagesearch retry 20260131-120000-a1b2c3 --wait"))
@click.argument("job_id", metavar="ID", shell_complete=complete_job(lambda job: job.failed > 0))
@wait_option
@json_option
def retry(job_id: str, wait: bool, as_json: bool) -> int:
    """Try the failed files of an index job again, as a new job."""
    what = f"trying the failed files of job {job_id} in {{}} again"
    return _start(lambda client: client.retry_job(job_id), what, wait=wait, as_json=as_json)


def _start(submit: Callable[[Client], IndexJob], what: str, *, wait: bool, as_json: bool) -> int:
    """Submits a job, follows it if `wait`, and gives the exit code; `what` says what it does with the folder."""
    from common.terminal import printable

    client = make_client()
    with client.redis:
        job = submit(client)
        errors: list[FileError] = []
        if wait:
            job = follow(client, job)
            errors = client.job_errors(job.id) if job.failed else []
    if as_json:
        print_json(job.model_dump(mode="json"))
    elif not wait:
        print(printable(f"Job {job.id}: {what.format(job.folder)}. Its state: imagesearch jobs {job.id}"))
    name_failed(errors, job.id)
    return outcome(job)


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


def make_client() -> Client:
    """A client with the settings of the environment, or those of the `up` that runs."""
    from common.jobs import Client
    from common.up.run_record import load_settings

    return Client(load_settings())


def follow(client: Client, job: IndexJob) -> IndexJob:
    """Shows a job until it has ended. Ctrl-C ends only the showing, and says how to go on.

    Returns:
        The job as it ended.
    """
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
        note(how_to_go_on(job.id))
        raise
    finally:
        progress.close()


def how_to_go_on(job_id: str) -> str:
    """What to type about a job that goes on while nobody looks."""
    return (
        f"The job goes on without this command. Follow it: imagesearch jobs {job_id} --wait\n"
        f"End it: imagesearch cancel {job_id}"
    )


def outcome(job: IndexJob) -> int:
    """The exit code that a job means: 1 if it has ended without being done."""
    from common.messages import FINAL_JOB_STATES

    return 1 if job.state in FINAL_JOB_STATES - {"done"} else 0


def name_failed(errors: list[FileError], job_id: str) -> None:
    """Names the first files that failed, each with its reason."""
    from common.terminal import note, printable

    for error in errors[:_SHOWN_ERRORS]:
        note(printable(f"  {error.path}: {error.error}"))
    if len(errors) > _SHOWN_ERRORS:
        note(f"  and {len(errors) - _SHOWN_ERRORS:,} more: imagesearch jobs {job_id}")
