"""What commands share: the `--json` option, JSON documents, tables, and complaints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def print_json(document: Any) -> None:
    """Prints a document. ASCII only: a path may hold bytes that no terminal can show."""
    print(json.dumps(document, indent=2))


@dataclass(frozen=True, slots=True)
class Styled:
    """A value as a terminal shows it; elsewhere only its text counts.

    Attributes:
        value: What is shown.
        style: How, in rich's words, such as `bold red`.
        link: Where a click on it leads.
    """

    value: object
    style: str = ""
    link: str | None = None


# The colour of each state of a job or a worker.
STATE_STYLES = {
    "scanning": "cyan",
    "running": "cyan",
    "busy": "cyan",
    "queued": "cyan",
    "paused": "yellow",
    "loading": "yellow",
    "waiting": "yellow",
    "done": "green",
    "idle": "green",
    "cancelled": "dim",
    "failed": "red",
    "stuck": "red",
    "interrupted": "red",
}


def styled_state(state: str) -> Styled:
    """A state in its colour."""
    return Styled(state, STATE_STYLES.get(state, ""))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table on standard output: with colours and links on a terminal, plain elsewhere."""
    from common.terminal import is_terminal

    if not is_terminal(sys.stdout):
        print(table(headers, rows))
        return
    from rich.cells import cell_len
    from rich.style import Style
    from rich.text import Text

    screen = console()
    layout = _Layout(headers, rows, cell_len)
    screen.print(Text(layout.line([_text(header) for header in headers]), "bold"), soft_wrap=True)
    for row in rows:
        line = Text()
        for number, cell in enumerate(row):
            before, after = layout.padding(number, _text(cell))
            style = Style.null()
            if isinstance(cell, Styled):
                style = Style.parse(cell.style) + Style(link=cell.link)
            line.append(before).append(_text(cell), style).append(after)
        line.rstrip()
        screen.print(line, soft_wrap=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns in a row, numbers to the right; the last column is never cut, so that it can be copied."""
    layout = _Layout(headers, rows)
    return "\n".join(layout.line([_text(cell) for cell in row]) for row in [headers, *rows])


def console() -> Console:
    """Standard output as rich sees it; only what is said in so many words is styled."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


class _Layout:
    """How wide the columns of a table are, and to which side they align."""

    def __init__(
        self, headers: Sequence[str], rows: Sequence[Sequence[object]], measure: Callable[[str], int] = len
    ) -> None:
        columns = range(len(headers))
        self._measure = measure
        self._widths = [max(measure(_text(row[number])) for row in [headers, *rows]) for number in columns]
        self._right = [bool(rows) and _is_number(rows[0][number]) for number in columns]

    def padding(self, number: int, text: str) -> tuple[str, str]:
        """The spaces before and after a cell."""
        room = " " * (self._widths[number] - self._measure(text))
        gap = "  " if number < len(self._widths) - 1 else ""
        return (room, gap) if self._right[number] else ("", room + gap)

    def line(self, texts: Sequence[str]) -> str:
        """A row as text."""
        parts = []
        for number, text in enumerate(texts):
            before, after = self.padding(number, text)
            parts.append(before + text + after)
        return "".join(parts).rstrip()


def _text(cell: object) -> str:
    from common.terminal import printable

    return printable(str(cell.value if isinstance(cell, Styled) else cell))


def _is_number(cell: object) -> bool:
    return isinstance(cell.value if isinstance(cell, Styled) else cell, int | float)


def complain(text: str) -> None:
    """Prints an error for the person at the terminal."""
    from common.terminal import tinted

    print(f"{tinted('Error:', 'red', sys.stderr)} {text}", file=sys.stderr, flush=True)
