"""The command `query`."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.cli.commands import command
from common.cli.completion import PictureType, complete_folder
from common.cli.graphics import PROTOCOLS
from common.cli.output import json_option, print_json

if TYPE_CHECKING:
    from common.cli.sheet import QueryPictureShown
    from common.cli.sources import Source
    from common.cli.thumbnails import Thumbnails
    from common.jobs import Client
    from common.messages import Crop, SearchQuery, SearchResult
    from common.settings import Settings

# Short enough to notice soon that the last query worker is gone.
_WAIT_SECONDS = 2.0
_DEFAULT_K = 10

_picture = PictureType()


@dataclass(frozen=True, slots=True)
class _Shown:
    """How the answer is shown."""

    thumbnails: str
    html: Path | None
    as_json: bool


@command(
    ("The ten most similar pictures", "imagesearch query photo.jpg"),
    ("Like two pictures together, less like a third", "imagesearch query a.jpg b.jpg --minus c.jpg"),
    ("Like the left half of a picture, in one folder", "imagesearch query photo.jpg --crop 0,0,0.5,1 --folder photos"),
    ("Like an indexed picture, which costs no computing", "imagesearch query photos/2026/cat.jpg -k 50"),
    ("Like what another program makes", "curl -s https://example.org/cat.jpg | imagesearch query -"),
    ("As a page to look at or to send", "imagesearch query photo.jpg -k 100 --html similar.html"),
    ("The paths only", "imagesearch query photo.jpg --json | jq -r '.results[].path'"),
)
@click.argument("images", metavar="IMAGE...", nargs=-1, type=_picture)
@click.option("--minus", "unlike", metavar="IMAGE", multiple=True, type=_picture, help="Less like this; repeatable.")
@click.option("--weights", metavar="W,W…", help="How much each IMAGE counts, such as 1,0.5,-0.5; by default the same.")
@click.option("--crop", metavar="L,T,R,B", help="Only this part: left, top, right and bottom edge, each from 0 to 1.")
# No default: a next page has as many as the one before.
@click.option("-k", type=click.IntRange(1, 1000), help=f"How many results; {_DEFAULT_K} by default.")
@click.option(
    "--folder", metavar="DIR", shell_complete=complete_folder, help="Only pictures below this folder of the library."
)
@click.option("--min-score", type=click.FloatRange(-1, 1), help="Only results with at least this score.")
@click.option("--cursor", metavar="CURSOR", help="The results after those of an earlier query: its next_cursor.")
@click.option(
    "--thumbnails",
    type=click.Choice(["auto", *PROTOCOLS, "none"]),
    metavar="HOW",
    default="auto",
    show_default=True,
    help="Show the pictures in the terminal: kitty, iterm, blocks (in any terminal with 24-bit colours), none; auto: "
    "where it is known to show them (kitty, Ghostty, iTerm2, WezTerm, mintty).",
)
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the results as an HTML page with pictures, complete in one file. An earlier one is replaced.",
)
@json_option
def query(
    images: tuple[str, ...],
    unlike: tuple[str, ...],
    weights: str | None,
    crop: str | None,
    k: int | None,
    folder: str | None,
    min_score: float | None,
    cursor: str | None,
    thumbnails: str,
    html: Path | None,
    as_json: bool,
) -> int:
    """Find the pictures most similar to IMAGE, or to several.

    IMAGE is a file, the path or id of an indexed picture, an http(s) address, or - for standard input.
    """
    from common.cli.indexing import make_client
    from common.cli.sources import choose_weights, parse_crop, read_sources

    _check_options(images, unlike, [weights, crop, folder, min_score], cursor)
    shown = _Shown(thumbnails, html, as_json)
    _check_shown(shown)
    client = make_client()
    with client.redis:
        if cursor is not None:
            _check_workers(client)
            result = client.continue_search(cursor, k)
            _show(_await_result(client, result.id), client, (), None, shown)
            return 0
        values = choose_weights(len(images), len(unlike), weights)
        part = parse_crop(crop, len(images) + len(unlike))
        sources = read_sources([*images, *unlike], values, client.library, client.settings)
        asked = _asked(client, sources, part, k or _DEFAULT_K, folder, min_score)
        _check_workers(client)
        uploads = [source.data for source in sources if source.data is not None]
        submitted = client.submit_search(asked, uploads)
        _show(_await_result(client, submitted.id), client, sources, part, shown)
    return 0


def _check_options(images: tuple[str, ...], unlike: tuple[str, ...], others: list[object], cursor: str | None) -> None:
    if cursor is None:
        if not images:
            raise click.UsageError("Missing argument 'IMAGE...': name a picture to search for.")
    elif images or unlike or any(value is not None for value in others):
        raise click.UsageError("--cursor goes on with an earlier query as it was: only -k can be given beside it.")


def _check_shown(shown: _Shown) -> None:
    from common.cli.sheet import SUFFIXES

    if shown.html is not None:
        if shown.html.suffix.lower() not in SUFFIXES:
            # Or a picture that was meant to be searched for would be overwritten.
            raise click.BadParameter(f"{str(shown.html)!r} does not end in .html.", param_hint="--html")
        if not shown.html.absolute().parent.is_dir():
            raise click.BadParameter(f"there is no folder {str(shown.html.parent)!r}.", param_hint="--html")
    if shown.as_json and shown.thumbnails not in {"auto", "none"}:
        raise click.UsageError("--json prints nothing but the document: it goes without --thumbnails.")


def _asked(
    client: Client, sources: tuple[Source, ...], crop: Crop | None, k: int, folder: str | None, min_score: float | None
) -> SearchQuery:
    from common.cli.indexing import public_folder
    from common.cli.sources import query_images
    from common.messages import SearchQuery

    return SearchQuery(
        image_id=sources[0].image_id if len(sources) == 1 else None,
        images=query_images(sources),
        k=k,
        folder=public_folder(client.library, folder) if folder else None,
        min_score=min_score,
        crop=crop,
    )


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
    """The result of a search.

    Raises:
        ImageSearchError: It has failed.
        WorkerTimeout: There is none in time.
    """
    from common.errors import ImageSearchError, WorkerTimeout

    deadline = time.monotonic() + client.settings.search_timeout_seconds
    try:
        while True:
            result = client.search(search_id, _WAIT_SECONDS)
            if result.state == "failed":
                raise ImageSearchError(result.error)
            if result.state == "done":
                return result
            if time.monotonic() > deadline:
                raise WorkerTimeout
            _check_workers(client)
    except KeyboardInterrupt:
        with suppress(ImageSearchError):
            client.withdraw_search(search_id)  # else a worker would compute it for nobody
        raise


def _show(result: SearchResult, client: Client, sources: tuple[Source, ...], crop: Crop | None, shown: _Shown) -> None:
    from common.cli.hits import choose_protocol, print_pictures, print_result, say_more
    from common.cli.thumbnails import Thumbnails
    from common.terminal import note, printable

    protocol = None if shown.as_json else choose_protocol(shown.thumbnails)
    thumbnails = Thumbnails(client.settings) if protocol or shown.html else None
    if thumbnails is not None and thumbnails.problem:
        note(printable(thumbnails.problem), "yellow")
    if shown.html is not None and thumbnails is not None:
        _write_html(shown.html, result, sources, crop, thumbnails, client.settings)
    if result.trained is False:
        note("The model is untrained: results match colour and texture only. See: imagesearch weights", "yellow")
    if shown.as_json:
        print_json(result.model_dump(mode="json"))
    elif not result.results:
        _say_nothing_found(result)
    else:
        if protocol is not None and thumbnails is not None and not thumbnails.problem:
            print_pictures(result, client.library, thumbnails, protocol)
        else:
            print_result(result, client.library)
        say_more(result)


def _say_nothing_found(result: SearchResult) -> None:
    from common.terminal import note

    if result.indexed:
        note("Nothing was found: no picture in that folder, or none with such a score.")
    else:
        note("Nothing is indexed yet, or nothing in that folder. Start with: imagesearch index DIR")


def _write_html(
    target: Path,
    result: SearchResult,
    sources: tuple[Source, ...],
    crop: Crop | None,
    thumbnails: Thumbnails,
    settings: Settings,
) -> None:
    from common.cli.sheet import write_sheet
    from common.terminal import note, printable

    pictures = [_query_picture(source, thumbnails, settings) for source in sources]
    write_sheet(target, result, pictures, thumbnails, crop)
    note(printable(f"Written: {target}"))


def _query_picture(source: Source, thumbnails: Thumbnails, settings: Settings) -> QueryPictureShown:
    from common.cli.sheet import QueryPictureShown
    from common.errors import ImageRejected
    from common.images import ImageDecoder

    image: bytes | None = None
    if source.image_id is not None:
        found = thumbnails.get(source.image_id)
        image = found.data if found else None
    elif source.data is not None:
        with suppress(ImageRejected):  # a worker with other codecs could decode it
            image = ImageDecoder.for_uploads(settings).decode(source.data).thumbnail
    return QueryPictureShown(source.label, source.weight, image)
