"""Small pictures in a terminal: kitty's graphics protocol, iTerm2's inline images, or blocks of two colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from PIL.Image import Image

Protocol = Literal["kitty", "iterm", "blocks"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

# The columns and rows of cells that a picture takes at most, and the columns between it and the text beside it. A cell
# is taken to be twice as high as wide. Blocks are coarse and need more of them.
BOXES: dict[Protocol, tuple[int, int]] = {"kitty": (20, 7), "iterm": (20, 7), "blocks": (32, 12)}
GAP = 2
# Enough for a display with fine pixels.
_CELL_PIXELS = 16
# As the protocol demands.
_KITTY_CHUNK = 4096

_KITTY_TERMS = {"xterm-kitty", "xterm-ghostty"}
_KITTY_PROGRAMS = {"ghostty"}
_ITERM_PROGRAMS = {"iTerm.app", "WezTerm", "mintty"}


def known_protocol(environ: Mapping[str, str]) -> Protocol | None:
    """What the terminal is known to draw with, from what it says of itself in the environment.

    It is not asked: what it answers, or a terminal that answers nothing, would disturb what is typed meanwhile.
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if environ.get("TMUX") or environ.get("STY") or term.startswith(("screen", "tmux")):
        return None  # a multiplexer stands between, and passes no pictures on
    if environ.get("KITTY_WINDOW_ID") or term in _KITTY_TERMS or program in _KITTY_PROGRAMS:
        return "kitty"
    # The second one comes through ssh.
    if program in _ITERM_PROGRAMS or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return None


def beside(protocol: Protocol, thumbnail: bytes | None, lines: Sequence[str]) -> str:
    """A picture with text to its right.

    Args:
        protocol: How to draw it.
        thumbnail: An encoded image; an empty place without it.
        lines: The text; no line may be wider than the terminal without `text_column`.

    Returns:
        What to write to the terminal, whose cursor must be at the start of a line, and is so again then.
    """
    image = _decoded(thumbnail)
    cells = _cells(image, protocol) if image is not None else (0, 0)
    margin = text_column(protocol)
    if protocol == "blocks":
        drawn = list(_blocks(image, cells)) if image is not None else []
        pairs = zip_longest(drawn, lines, fillvalue="")
        return "".join(f"{left}{' ' * (margin - (cells[0] if left else 0))}{right}\n" for left, right in pairs)
    height = max(cells[1], len(lines))
    # Room is made first, since a terminal that scrolls would take the picture along.
    place = "\n" * height + f"\x1b[{height}A"
    if image is not None:
        place += "\x1b7" + (_kitty(image, cells) if protocol == "kitty" else _iterm(thumbnail or b"", cells)) + "\x1b8"
    text = "".join(f"\x1b[{margin}C{line}\n" for line in lines)
    return place + text + "\n" * (height - len(lines))


def text_column(protocol: Protocol) -> int:
    """How many columns there are to the left of the text."""
    return BOXES[protocol][0] + GAP


def _decoded(thumbnail: bytes | None) -> Image | None:
    from PIL import Image

    if thumbnail is None:
        return None
    try:
        with Image.open(io.BytesIO(thumbnail)) as image:
            return image.convert("RGB")
    except (OSError, ValueError):
        return None


def _cells(image: Image, protocol: Protocol) -> tuple[int, int]:
    """Columns and rows that a picture takes."""
    columns, rows = BOXES[protocol]
    width, height = _within(image, columns, 2 * rows)
    return width, (height + 1) // 2


def _within(image: Image, width: int, height: int) -> tuple[int, int]:
    scale = min(width / image.width, height / image.height)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _blocks(image: Image, size: tuple[int, int]) -> Iterator[str]:
    """Lines of half blocks: each character shows two pixels, one above the other."""
    columns, rows = size
    small = image.resize((columns, 2 * rows)).tobytes()
    for row in range(rows):
        cells = []
        for column in range(columns):
            upper, lower = (3 * ((2 * row + half) * columns + column) for half in (0, 1))
            front, back = (";".join(map(str, small[at : at + 3])) for at in (upper, lower))
            cells.append(f"\x1b[38;2;{front};48;2;{back}m▀")
        yield "".join(cells) + "\x1b[0m"


def _kitty(image: Image, cells: tuple[int, int]) -> str:
    """https://sw.kovidgoyal.net/kitty/graphics-protocol/"""
    most_columns, most_rows = BOXES["kitty"]
    buffer = io.BytesIO()
    image.resize(_within(image, most_columns * _CELL_PIXELS, 2 * most_rows * _CELL_PIXELS)).save(buffer, "PNG")
    data = base64.standard_b64encode(buffer.getvalue()).decode()
    # Only one side is given: the other follows from the picture, whatever the shape of a cell is. q=2: no answers,
    # which would end up in the shell. C=1: the cursor stays.
    side = f"c={cells[0]}" if cells[0] == most_columns else f"r={cells[1]}"
    control = f"a=T,f=100,q=2,C=1,{side},"
    chunks = [data[start : start + _KITTY_CHUNK] for start in range(0, len(data), _KITTY_CHUNK)]
    parts = []
    for number, chunk in enumerate(chunks):
        more = int(number < len(chunks) - 1)
        parts.append(f"\x1b_G{control if number == 0 else ''}m={more};{chunk}\x1b\\")
    return "".join(parts)


def _iterm(encoded: bytes, cells: tuple[int, int]) -> str:
    """https://iterm2.com/documentation-images.html"""
    columns, rows = cells
    data = base64.standard_b64encode(encoded).decode()
    return f"\x1b]1337;File=inline=1;size={len(encoded)};width={columns};height={rows};preserveAspectRatio=1:{data}\x07"
