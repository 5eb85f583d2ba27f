"""The command `duplicates`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from common.cli.commands import command
from common.cli.completion import complete_folder
from common.cli.output import Styled, json_option, print_json, print_table

if TYPE_CHECKING:
    from common.duplicates import DuplicateGroup, DuplicateJob, DuplicatePage
    from common.jobs import Client
    from common.library import Library

_POLL_SECONDS = 0.5
_PAGE = 1000
_LEAST_SCORE = 0.97


@command(
    ("The same or nearly the same pictures", "imagesearch duplicates"),
    ("Only almost exact copies, in one folder", "imagesearch duplicates --min-score 0.995 --folder photos/2026"),
    ("All copies but the first, for a script", "imagesearch duplicates --json | jq -r '.groups[].images[1:][].path'"),
)
@click.option(
    "--min-score",
    type=click.FloatRange(0.8, 1),
    help=f"Least cosine similarity of duplicates; {_LEAST_SCORE:g} by default.",
)
@click.option(
    "--folder", metavar="DIR", shell_complete=complete_folder, help="Only pictures below this folder of the library."
)
@click.option("--job", "job_id", metavar="ID", help="Show what an earlier search for duplicates has found.")
@json_option
def duplicates(min_score: float | None, folder: str | None, job_id: str | None, as_json: bool) -> int:
    """Find pictures that are there twice: the same, or nearly so."""
    from common.cli.indexing import make_client
    from common.errors import ImageSearchError

    if job_id is not None and (min_score is not None or folder is not None):
        raise click.UsageError("--job shows an earlier search as it was: without --min-score and --folder.")
    client = make_client()
    with client.redis:
        if job_id is None:
            job = _submit(client, min_score or _LEAST_SCORE, folder)
        else:
            job = client.duplicates(job_id, None, 1)
        job = _follow(client, job)
        if job.state == "failed":
            raise ImageSearchError(job.error)
        groups = _all_groups(client, job.id)
    if as_json:
        print_json(job.model_dump(mode="json") | {"groups": [group.model_dump(mode="json") for group in groups]})
    else:
        _print_groups(job, groups, client.library)
    return 0


def _submit(client: Client, min_score: float, folder: str | None) -> DuplicateJob:
    from common.cli.collection import need_maintenance
    from common.cli.indexing import public_folder

    need_maintenance(client)
    return client.submit_duplicate_job(min_score, public_folder(client.library, folder) if folder else None)


def _follow(client: Client, job: DuplicateJob) -> DuplicateJob:
    """Waits until the job has ended, and shows how far it is."""
    from common.terminal import Counter, note

    counter = Counter(sys.stderr)
    try:
        while job.state in ("queued", "running"):
            waiting = "waiting for the maintenance worker" if job.state == "queued" else "comparing pictures"
            counter.show(job.done, job.total, waiting)
            time.sleep(_POLL_SECONDS)
            job = client.duplicates(job.id, None, 1)
    except KeyboardInterrupt:
        counter.close()
        note(f"The search goes on without this command. What it finds: imagesearch duplicates --job {job.id}")
        raise
    finally:
        counter.close()
    return _without_groups(job)


def _without_groups(job: DuplicateJob) -> DuplicateJob:
    from common.duplicates import DuplicateJob

    return DuplicateJob(**job.model_dump())


def _all_groups(client: Client, job_id: str) -> list[DuplicateGroup]:
    groups: list[DuplicateGroup] = []
    cursor: str | None = None
    while True:
        page: DuplicatePage = client.duplicates(job_id, cursor, _PAGE)
        groups += page.groups
        cursor = page.next_cursor
        if cursor is None:
            return groups


def _print_groups(job: DuplicateJob, groups: list[DuplicateGroup], library: Library) -> None:
    from common.cli.links import Links
    from common.terminal import note

    if not groups:
        note(f"None of {job.total:,} pictures is there twice (--min-score {job.min_score:g}).")
        return
    links = Links(library)
    rows = [
        (
            # Every second group stands out from its neighbours.
            Styled(number, "bold" if number % 2 else "dim"),
            Styled(f"{group.lowest_score:.4f}", "cyan"),
            image.width,
            image.height,
            image.size,
            Styled(image.path, link=links.to(image.path)),
        )
        for number, group in enumerate(groups, 1)
        for image in group.images
    ]
    print_table(("group", "score", "width", "height", "bytes", "path"), rows)
    note(f"{job.found_groups:,} groups with {job.found_images:,} of {job.total:,} pictures.")
