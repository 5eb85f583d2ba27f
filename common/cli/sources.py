"""What `query` searches for: files, pictures from elsewhere, and indexed pictures."""

from __future__ import annotations

import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

import click

from common.errors import ImageSearchError

if TYPE_CHECKING:
    from common.library import Library
    from common.messages import Crop, QueryImage
    from common.settings import Settings

# What a picture that is not wanted counts against one that is: with as much, what both have in common is lost.
_LESS = 0.5
_FETCH_TIMEOUT_SECONDS = 15
_IMAGE_ID = re.compile(r"[0-9a-f]{32}")


class PictureNotFetched(ImageSearchError):
    """The picture cannot be fetched from its address."""

    def __init__(self, url: str, reason: object) -> None:
        self.url = url
        super().__init__(f"{url} cannot be fetched: {reason}. Save the picture, and search for the file.")


@dataclass(frozen=True, slots=True)
class Source:
    """A picture that is searched for.

    Attributes:
        name: As it was given.
        weight: How much it counts.
        data: The bytes of its file; None for an indexed picture.
        image_id: The id of an indexed picture.
    """

    name: str
    weight: float
    data: bytes | None = None
    image_id: str | None = None

    @property
    def label(self) -> str:
        """What to call it before others: without the folders of this machine, or what is secret in an address."""
        if self.name == "-":
            return "standard input"
        if self.image_id is not None:
            return self.name
        address = urlsplit(self.name)
        if address.hostname and address.scheme in {"http", "https"}:
            return f"{address.hostname}{address.path}"
        return Path(self.name).name


def read_sources(
    names: Sequence[str], weights: Sequence[float], library: Library, settings: Settings
) -> tuple[Source, ...]:
    """Finds out what the names stand for, and reads what is not indexed.

    Args:
        names: Files, `-` for standard input, addresses, and public paths or ids of indexed pictures.
        weights: How much each counts.
        library: Its roots begin public paths.
        settings: The limit of uploads, which holds for all together.

    Raises:
        click.UsageError: A name stands for nothing.
        ImageTooLarge: They have too many bytes.
        PictureNotFetched: An address does not give a picture.
    """
    from common.errors import ImageTooLarge

    if names.count("-") > 1:
        raise click.UsageError("Standard input (-) holds only one picture.")
    sources, size = [], 0
    for name, weight in zip(names, weights, strict=True):
        source = _read(name, weight, library, settings.max_upload_bytes)
        size += len(source.data or b"")
        if size > settings.max_upload_bytes:
            # What is too large was not read to its end: the file knows its size.
            size = max(size, _file_size(name))
            raise ImageTooLarge("bytes", size, settings.max_upload_bytes, "MAX_UPLOAD_BYTES")
        sources.append(source)
    return tuple(sources)


def query_images(sources: Sequence[Source]) -> tuple[QueryImage, ...]:
    """The sources as a query names them; none for a single one that is wanted, which needs no weight."""
    from common.messages import QueryImage

    if len(sources) == 1:
        return ()
    return tuple(QueryImage(image_id=source.image_id, weight=source.weight) for source in sources)


def choose_weights(like: int, unlike: int, weights: str | None) -> list[float]:
    """How much each picture counts.

    Args:
        like: How many are wanted.
        unlike: How many are not.
        weights: Those of `--weights`: for the wanted ones, in their order.

    Returns:
        By default the mean of those that are wanted, less half the mean of the others.

    Raises:
        click.UsageError: There are too many or too few, or they are no numbers.
    """
    from common.messages import MAX_QUERY_IMAGES, MAX_WEIGHT

    if like + unlike > MAX_QUERY_IMAGES:
        raise click.UsageError(f"At most {MAX_QUERY_IMAGES} pictures can be searched for together.")
    if weights is None:
        return [1 / like] * like + [-_LESS / max(1, unlike)] * unlike
    if unlike:
        raise click.UsageError("Give either --minus or --weights, where a negative weight means less like this.")
    values = _numbers(weights, "--weights")
    if len(values) != like:
        raise click.BadParameter(f"there are {len(values)} weights for {like} pictures.", param_hint="--weights")
    if not any(value > 0 for value in values):
        raise click.BadParameter("at least one must be positive: say what to look for.", param_hint="--weights")
    if any(abs(value) > MAX_WEIGHT for value in values):
        raise click.BadParameter(f"they are from -{MAX_WEIGHT} to {MAX_WEIGHT}.", param_hint="--weights")
    return values


def parse_crop(text: str | None, pictures: int) -> Crop | None:
    """The part of the picture that is meant, from `left,top,right,bottom` in fractions.

    Raises:
        click.UsageError: It is none, or there are several pictures.
    """
    if text is None:
        return None
    if pictures > 1:
        raise click.UsageError("--crop is possible only where a single picture is searched for.")
    values = _numbers(text, "--crop")
    if len(values) != 4 or not all(0 <= value <= 1 for value in values):
        raise click.BadParameter("give left,top,right,bottom as fractions from 0 to 1.", param_hint="--crop")
    left, top, right, bottom = values
    if left >= right or top >= bottom:
        raise click.BadParameter("left must be less than right, and top less than bottom.", param_hint="--crop")
    return left, top, right, bottom


def _numbers(text: str, option: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers such as 1,0.5.", param_hint=option) from None
    if any(value != value for value in values):  # nan compares with nothing
        raise click.BadParameter(f"{text!r} is no list of numbers such as 1,0.5.", param_hint=option)
    return values


def _read(name: str, weight: float, library: Library, limit: int) -> Source:
    if name == "-":
        return Source(name, weight, data=_limited(sys.stdin.buffer, limit))
    if name.startswith(("http://", "https://")):
        return Source(name, weight, data=_fetched(name, limit))
    path = Path(name).expanduser()
    # Not the methods of the path: those raise when a name is too long.
    if os.path.isdir(path):  # noqa: PTH112
        raise click.BadParameter(f"{name!r} is a folder; name a picture.", param_hint="IMAGE")
    if os.path.exists(path):  # noqa: PTH110 - a file, or a pipe of the shell's
        return Source(name, weight, data=_file(path, limit))
    if _IMAGE_ID.fullmatch(name):
        return Source(name, weight, image_id=name)
    root, slash, _ = name.partition("/")
    if slash and root in library.names:
        return Source(name, weight, image_id=_stored_id(name))
    raise click.BadParameter(
        f"{name!r} does not exist, and is no indexed picture such as {(library.names or ['photos'])[0]}/2026/cat.jpg.",
        param_hint="IMAGE",
    )


def _stored_id(public_path: str) -> str:
    from common.library import Location
    from common.store import image_id

    return image_id(Location.parse(public_path).public)


def _file(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return _limited(file, limit)


def _file_size(name: str) -> int:
    try:
        return Path(name).expanduser().stat().st_size
    except OSError:
        return 0


def _limited(file: BinaryIO, limit: int) -> bytes:
    # One more than allowed, so that too much is noticed without being read.
    return file.read(limit + 1)


def _fetched(url: str, limit: int) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "imagesearch"})
    try:
        with urllib.request.urlopen(request, timeout=_FETCH_TIMEOUT_SECONDS) as response:
            return _limited(response, limit)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise PictureNotFetched(url, getattr(error, "reason", None) or error) from error
