"""Tables, for people and for pipes."""

from __future__ import annotations

from contextlib import redirect_stdout

from common.cli.output import Styled, print_table, table
from tests.unit.cli.conftest import Terminal


def test_a_table_aligns_numbers_and_never_cuts_paths() -> None:
    rows = [(1, "0.9", "photos/a.jpg"), (10, "0.85", "photos/" + "b" * 200 + ".jpg")]
    lines = table(("rank", "score", "path"), rows).splitlines()
    assert lines[:2] == ["rank  score  path", "   1  0.9    photos/a.jpg"]
    assert lines[2].startswith("  10  0.85   photos/bbb")
    assert lines[2].endswith("b.jpg")


def test_a_table_on_a_terminal_lines_up_in_any_script(terminal: Terminal) -> None:
    rows = [
        (Styled(7, "red"), "é", Styled("photos/写真.jpg", "bold")),
        (1234, "写真", "photos/\x1b[2J.jpg"),
        (5, "", ""),
    ]
    with redirect_stdout(terminal.stream):
        print_table(("count", "name", "path"), rows)
    assert terminal.text().splitlines() == [
        "\x1b[1mcount  name  path\x1b[0m",
        "    \x1b[31m7\x1b[0m  é     \x1b[1mphotos/写真.jpg\x1b[0m",
        " 1234  写真  photos/\\x1b[2J.jpg",
        "    5",
    ]
