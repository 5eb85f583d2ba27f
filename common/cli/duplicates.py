"""The command `duplicates`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from common.cli.output import json_option, print_json

if TYPE_CHECKING:
    from common.duplicates import DuplicateGroup, DuplicateJob, DuplicatePage
    from common.jobs import Client

_POLL_SECONDS = 0.5
_PAGE = 1000


@click.command()
@click.option(
    "--min-score",
    default=0.97,
    show_default=True,
    type=click.FloatRange(0.8, 1),
    help="Least cosine similarity of duplicates.",
)
@click.option("--folder", metavar="DIR", help="Only pictures below this folder of the library.")
@json_option
def duplicates(min_score: float, folder: str | None, as_json: bool) -> int:
    """Find pictures that are there twice or more: the same, or nearly the same."""
    from common.cli.indexing import make_client, public_folder
    from common.errors import ImageSearchError

    client = make_client()
    with client.redis:
        _check_workers(client)
        job = client.submit_duplicate_job(min_score, public_folder(client.library, folder) if folder else None)
        job = _follow(client, job)
        if job.state == "failed":
            raise ImageSearchError(job.error)
        groups = _all_groups(client, job.id)
    if as_json:
        print_json(job.model_dump(mode="json") | {"groups": [group.model_dump(mode="json") for group in groups]})
    else:
        _print_groups(job, groups)
    return 0


def _check_workers(client: Client) -> None:
    from common.errors import ServiceUnavailable

    if not any("maintenance" in worker.queues for worker in client.workers()):
        raise ServiceUnavailable(
            "No maintenance worker is running. Start one with: imagesearch worker --queues maintenance"
        )


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
        note(f"The job goes on without this command: GET /api/v1/duplicate-jobs/{job.id}")
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


def _print_groups(job: DuplicateJob, groups: list[DuplicateGroup]) -> None:
    from common.terminal import note, table

    if not groups:
        note(f"None of {job.total:,} pictures is there twice (--min-score {job.min_score:g}).")
        return
    rows = [
        (number, f"{group.lowest_score:.4f}", image.width, image.height, image.size, image.path)
        for number, group in enumerate(groups, 1)
        for image in group.images
    ]
    print(table(("group", "score", "width", "height", "bytes", "path"), rows))
    note(f"{job.found_groups:,} groups with {job.found_images:,} of {job.total:,} pictures.")
