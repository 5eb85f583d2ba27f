"""The results of a search on standard output: a table, or with thumbnails beside the text."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING

from common.cli.graphics import PROTOCOLS, Protocol, beside, known_protocol, text_column
from common.cli.links import Links
from common.cli.output import Styled, console, print_table
from common.terminal import is_terminal, note, printable

if TYPE_CHECKING:
    from rich.console import Console

    from common.cli.thumbnails import Thumbnails
    from common.library import Library
    from common.messages import SearchHit, SearchResult

# Narrower text is not worth a picture beside it.
_LEAST_TEXT = 20


def choose_protocol(wish: str) -> Protocol | None:
    """How thumbnails are drawn, if at all.

    Args:
        wish: The option's value. `auto` draws only on a terminal that is known to show pictures; whatever else is
            said is done, also into a pipe, such as one to a pager.
    """
    for protocol in PROTOCOLS:
        if protocol == wish:
            return protocol
    return known_protocol(os.environ) if wish == "auto" and is_terminal(sys.stdout) else None


def print_result(result: SearchResult, library: Library) -> None:
    """Prints a table of the hits."""
    links = Links(library)
    has_percentile = any(hit.percentile is not None for hit in result.results)
    headers = ["rank", "score", *(["percentile"] if has_percentile else []), "distance", "path"]
    rows = []
    for hit in result.results:
        percentile = [Styled(percent(hit.percentile), "green")] if has_percentile else []
        score, distance = Styled(f"{hit.score:.4f}", "cyan"), Styled(f"{hit.distance:.4f}", "dim")
        rows.append((hit.rank, score, *percentile, distance, Styled(hit.path, link=links.to(hit.path))))
    print_table(headers, rows)


def print_pictures(result: SearchResult, library: Library, thumbnails: Thumbnails, protocol: Protocol) -> None:
    """Prints each hit with its thumbnail beside it."""
    links, screen = Links(library), console()
    width = max(_LEAST_TEXT, screen.width - text_column(protocol))
    for hit in result.results:
        found = thumbnails.get(hit.image_id)
        lines = _described(hit, links.to(hit.path), screen, width)
        print(beside(protocol, found.data if found else None, lines))


def say_more(result: SearchResult) -> None:
    """Says to whom looks on how much was searched, and how to see more."""
    if not is_terminal(sys.stdout):
        return
    took = f" in {result.took_ms['total']:.0f} ms" if "total" in result.took_ms else ""
    if result.indexed is not None:
        note(f"{result.indexed:,} pictures searched{took}.")
    if result.next_cursor is not None:
        note(f"The next ones: imagesearch query --cursor {result.next_cursor}")


def percent(value: float | None) -> str:
    """A percentile; never rounded up, so that 100 means all."""
    return "" if value is None else f"{math.floor(round(value * 100, 6)) / 100:.2f}"


def _described(hit: SearchHit, link: str | None, screen: Console, width: int) -> list[str]:
    """The lines beside a thumbnail, as the terminal takes them."""
    from rich.style import Style
    from rich.text import Text

    figures = Text.assemble((f"{hit.rank}", "bold"), "  ", (f"{hit.score:.4f}", "cyan"))
    if hit.percentile is not None:
        figures.append("  ").append(f"{percent(hit.percentile)} %", "green")
    path = Text(printable(hit.path), Style(link=link))
    size = Text(f"{hit.width} x {hit.height}", "dim")
    lines = [figures, *path.wrap(screen, width, overflow="fold"), size]
    with screen.capture() as capture:
        for line in lines:
            line.rstrip()
            screen.print(line, soft_wrap=True)
    return capture.get().splitlines()
