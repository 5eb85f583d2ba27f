"""A contact sheet: the results of a search as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from common.cli.hits import percent
from common.files import write_atomically
from common.terminal import printable

if TYPE_CHECKING:
    from common.cli.thumbnails import Thumbnails
    from common.messages import Crop, SearchHit, SearchResult

SUFFIXES = {".html", ".htm"}

# Nothing is loaded and no script runs, whatever a file may be called.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --quiet: #57606a; --line: #d0d7de; --mark: #0a58ca }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e6e9ed; --quiet: #9da7b3; --line: #343b44; --mark: #79b0ff }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 96rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.3rem; margin: 0 0 .25rem }
p { margin: 0 0 1rem; color: var(--quiet) }
ol, ul { list-style: none; margin: 0 0 1.5rem; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)) }
figure { margin: 0; height: 100%; border: 1px solid var(--line); border-radius: .5rem; overflow: hidden }
.picture { display: flex; height: 13rem; align-items: center; justify-content: center; padding: .5rem;
  color: var(--quiet) }
.frame { position: relative; display: inline-flex; max-height: 100% }
img { display: block; max-width: 100%; max-height: 12rem; object-fit: contain }
.crop { position: absolute; border: 2px solid #fff; outline: 2px solid #000 }
figcaption { padding: .5rem .75rem; border-top: 1px solid var(--line) }
figcaption span { display: block; overflow-wrap: anywhere }
.figures { font-variant-numeric: tabular-nums; font-weight: 600 }
.figures em { font-style: normal; color: var(--mark) }
.quiet { color: var(--quiet); font-size: .85rem }
@media print { figure { break-inside: avoid } }
"""


@dataclass(frozen=True, slots=True)
class QueryPictureShown:
    """A picture that was searched for, as the sheet shows it.

    Attributes:
        name: What it is called.
        weight: How much it counts.
        image: An encoded image; None if there is none to show.
    """

    name: str
    weight: float
    image: bytes | None


def write_sheet(
    target: Path,
    result: SearchResult,
    pictures: Sequence[QueryPictureShown],
    thumbnails: Thumbnails,
    crop: Crop | None = None,
) -> None:
    """Writes the sheet, whole or not at all.

    Args:
        target: The file, which is replaced if it is there.
        result: What was found.
        pictures: What was searched for.
        thumbnails: The pictures of the results.
        crop: The part of the query picture that was meant.

    Raises:
        OSError: The file cannot be written.
    """
    title = _title(pictures)
    searched = [_query_item(picture, crop, alone=len(pictures) == 1) for picture in pictures]
    found = [_hit_item(hit, thumbnails) for hit in result.results]
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>{_text(title)}</h1>",
        f"<p>{_text(_summary(result))}</p>",
        *(["<ul>", *searched, "</ul>"] if searched else []),
        "<ol>",
        *found,
        "</ol>",
        "</html>",
    ]
    write_atomically(target, "\n".join(parts).encode() + b"\n")


def _title(pictures: Sequence[QueryPictureShown]) -> str:
    like = ", ".join(Path(picture.name).name for picture in pictures if picture.weight > 0)
    unlike = ", ".join(Path(picture.name).name for picture in pictures if picture.weight <= 0)
    if not like:
        return "Similar pictures, continued"
    return f"Similar to {like}" + (f", less like {unlike}" if unlike else "")


def _summary(result: SearchResult) -> str:
    parts = [f"{len(result.results):,} results"]
    if result.indexed is not None:
        parts[0] += f" among {result.indexed:,} pictures"
    parts.append(f"{datetime.now().astimezone():%Y-%m-%d %H:%M}")
    if result.model:
        parts.append(f"model {result.model}")
    if result.trained is False:
        parts.append("untrained: results match colour and texture only")
    return " · ".join(parts)


def _query_item(picture: QueryPictureShown, crop: Crop | None, *, alone: bool) -> str:
    box = ""
    if crop is not None:
        left, top, right, bottom = (100 * side for side in crop)
        place = f"left:{left:.3f}%;top:{top:.3f}%;width:{right - left:.3f}%;height:{bottom - top:.3f}%"
        box = f'<span class="crop" style="{place}"></span>'
    role = "searched for" if picture.weight > 0 else "less like this"
    weight = "" if alone else f" · weight {picture.weight:.3g}"
    lines = [f'<span class="quiet">{role}{weight}</span>', f"<span>{_text(picture.name)}</span>"]
    return _figure(picture.image, picture.name, lines, box)


def _hit_item(hit: SearchHit, thumbnails: Thumbnails) -> str:
    found = thumbnails.get(hit.image_id)
    size = f"{hit.width} x {hit.height}" + (f" · {_amount(found.file_size)}" if found else "")
    figures = f"<em>{hit.rank}</em> · {hit.score:.4f}"
    if hit.percentile is not None:
        figures += f" · {percent(hit.percentile)} %"
    lines = [
        f'<span class="figures" title="rank · cosine similarity · percentile">{figures}</span>',
        f"<span>{_text(hit.path)}</span>",
        f'<span class="quiet">{size}</span>',
    ]
    return _figure(found.data if found else None, hit.path, lines)


def _figure(image: bytes | None, name: str, lines: Sequence[str], box: str = "") -> str:
    shown = "no preview"
    if image is not None:
        data = base64.standard_b64encode(image).decode()
        shown = f'<span class="frame"><img src="data:{_kind(image)};base64,{data}" alt="{_text(name)}">{box}</span>'
    return f'<li><figure><div class="picture">{shown}</div><figcaption>{"".join(lines)}</figcaption></figure></li>'


def _kind(image: bytes) -> str:
    return "image/webp" if image[8:12] == b"WEBP" else "image/jpeg"


def _text(text: str) -> str:
    return escape(printable(text))


def _amount(size: int) -> str:
    """Bytes for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} B"
