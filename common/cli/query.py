"""The command `query`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.cli.output import json_option, print_json

if TYPE_CHECKING:
    from common.jobs import Client
    from common.messages import QueryImage, SearchResult
    from common.settings import Settings

# Short enough to notice soon that the last query worker is gone.
_WAIT_SECONDS = 2.0
# What a picture that is not wanted counts against one that is: with as much, what both have in common is lost.
_LESS = 0.5

_picture = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=_picture)
@click.option("--minus", "unlike", metavar="IMAGE", multiple=True, type=_picture, help="Less like this; repeatable.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many results.")
@click.option("--folder", help="Only pictures below this folder of the library.")
@json_option
def query(images: tuple[Path, ...], unlike: tuple[Path, ...], k: int, folder: str | None, as_json: bool) -> int:
    """Find the pictures that are most similar to IMAGE, or to several together."""
    from common.errors import ImageSearchError
    from common.jobs import Client
    from common.messages import SearchQuery
    from common.up.run_record import load_settings

    settings = load_settings()
    weights = _weights(len(images), len(unlike))
    uploads = _read([*images, *unlike], settings)
    client = Client(settings)
    with client.redis:
        _check_workers(client)
        submitted = client.submit_search(SearchQuery(images=weights, k=k, folder=folder), uploads)
        result = _await_result(client, submitted.id)
    if result.state == "failed":
        raise ImageSearchError(result.error)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        _print_result(result)
    return 0


def _weights(like: int, unlike: int) -> tuple[QueryImage, ...]:
    """The mean of those that are wanted, less half the mean of the others; none for a single picture."""
    from common.messages import MAX_QUERY_IMAGES, QueryImage

    if like + unlike > MAX_QUERY_IMAGES:
        raise click.UsageError(f"At most {MAX_QUERY_IMAGES} pictures can be searched for together.")
    if like + unlike == 1:
        return ()
    return (QueryImage(weight=1 / like),) * like + (QueryImage(weight=-_LESS / max(1, unlike)),) * unlike


def _read(paths: list[Path], settings: Settings) -> list[bytes]:
    from common.errors import ImageTooLarge

    size = sum(path.stat().st_size for path in paths)
    if size > settings.max_upload_bytes:
        raise ImageTooLarge("bytes", size, settings.max_upload_bytes, "MAX_UPLOAD_BYTES")
    return [path.read_bytes() for path in paths]


def _print_result(result: SearchResult) -> None:
    from common.terminal import note, table

    if result.trained is False:
        note("The model is untrained: results match colour and texture only. See: imagesearch weights")
    if not result.results:
        note("Nothing is indexed yet, or nothing in that folder. Start with: imagesearch index DIR")
        return
    rows = [(hit.rank, f"{hit.score:.4f}", f"{hit.distance:.4f}", hit.path) for hit in result.results]
    print(table(("rank", "score", "distance", "path"), rows))


def _check_workers(client: Client) -> None:
    """Says at once, not after a minute, that nobody can answer."""
    from common.errors import ModelNotReady, ServiceUnavailable

    workers = [worker for worker in client.workers() if "query" in worker.queues]
    if not workers:
        raise ServiceUnavailable(
            "No query worker is running. Start everything with `make up`, or one with: "
            "imagesearch worker --queues query"
        )
    if all(worker.state == "waiting" for worker in workers):
        raise ModelNotReady(f"The query worker cannot work yet: {workers[0].detail or 'it waits for its model'}")


def _await_result(client: Client, search_id: str) -> SearchResult:
    deadline = time.monotonic() + client.settings.search_timeout_seconds
    while True:
        result = client.search(search_id, _WAIT_SECONDS)
        if result.state in {"done", "failed"} or time.monotonic() > deadline:
            return result
        _check_workers(client)
