"""Pictures of the results: in a terminal, and as a contact sheet."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.cli import graphics
from common.cli.app import run
from common.cli.graphics import BOXES, GAP, known_protocol
from common.jobs import Client
from common.store import FeatureStore, image_id
from tests.pictures import photo
from tests.unit.cli.conftest import Terminal
from tests.unit.cli.players import HIT, answer
from tests.unit.helpers import encoded

EVIL = '<script>alert("1")</script>\x1b.jpg'
KITTY = re.compile(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\")
ITERM = re.compile(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07")
BLOCK = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀")
HITS = [
    HIT.model_copy(update={"percentile": 99.5, "width": 640, "height": 480}),
    HIT.model_copy(update={"rank": 2, "image_id": image_id("photos/gone.jpg"), "path": "photos/gone.jpg"}),
]


COLUMNS, ROWS = BOXES["kitty"]


# --- what a terminal can do ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
    ],
)
def test_what_a_terminal_is_known_to_draw_with(environ: dict[str, str], protocol: str | None) -> None:
    assert known_protocol(environ) == protocol


def test_kitty_gets_a_png_in_chunks(client: Client, store: FeatureStore, picture: Path, terminal: Terminal) -> None:
    with answer(client, hits=HITS):
        assert terminal.run("query", str(picture), "--thumbnails", "kitty") == 0
    shown = terminal.text()
    chunks = KITTY.findall(shown)
    assert chunks[0][0] == f"a=T,f=100,q=2,C=1,r={ROWS},m=1"
    assert {control for control, _ in chunks[1:-1]} == {"m=1"}
    assert chunks[-1][0] == "m=0"
    assert max(len(data) for _, data in chunks) == 4096
    drawn = Image.open(io.BytesIO(base64.standard_b64decode("".join(data for _, data in chunks))))
    assert drawn.format == "PNG"
    assert drawn.width / drawn.height == pytest.approx(4 / 3, abs=0.01)
    assert_similar(drawn, photo(1))
    # The text stands to the right of the picture.
    beside = f"\x1b[{COLUMNS + GAP}C"
    assert f"{beside}\x1b[1m1\x1b[0m  \x1b[36m0.9877\x1b[0m  \x1b[32m99.50 %\x1b[0m\n" in shown
    assert f"{beside}photos/a b.jpg\n" in shown
    assert f"{beside}photos/gone.jpg\n" in shown  # without a picture
    assert f"\x1b[{ROWS}A\x1b7\x1b_G" in shown


def test_iterm_gets_the_thumbnail_as_it_is_stored(
    client: Client, store: FeatureStore, picture: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM_PROGRAM", "iTerm.app")  # so it needs no option
    with answer(client, hits=HITS):
        assert terminal.run("query", str(picture)) == 0
    ((control, data),) = ITERM.findall(terminal.text())
    thumbnail = store.thumbnail(store.entry(HIT.image_id))
    assert base64.standard_b64decode(data) == thumbnail
    assert f"inline=1;size={len(thumbnail)};" in control
    assert f"height={ROWS};" in control


def test_blocks_show_two_pixels_in_each_character(
    client: Client, store: FeatureStore, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answer(client, hits=HITS):
        assert run(["query", str(picture), "--thumbnails=blocks"]) == 0  # asked for: also into a pipe
    lines = [line for line in capsys.readouterr().out.splitlines() if "▀" in line]
    most_columns, rows = BOXES["blocks"]
    assert len(lines) == rows
    pixels = np.array([BLOCK.findall(line) for line in lines], np.uint8)  # rows, columns, two colours
    columns = pixels.shape[1]
    drawn = Image.fromarray(pixels.reshape(rows, columns, 2, 3).swapaxes(1, 2).reshape(2 * rows, columns, 3))
    assert columns / (2 * rows) == pytest.approx(4 / 3, abs=0.1)
    assert_similar(drawn, photo(1))
    assert lines[1].endswith("\x1b[0m" + " " * (most_columns - columns + GAP) + "photos/a b.jpg")


def assert_similar(drawn: Image.Image, expected: Image.Image) -> None:
    small = [np.asarray(image.convert("RGB").resize((8, 6)), np.float64) for image in (drawn, expected)]
    assert np.abs(small[0] - small[1]).mean() < 8


@pytest.mark.parametrize(("size", "cells"), [((320, 40), (32, 2)), ((40, 320), (3, 12)), ((1, 400), (1, 12))])
def test_pictures_of_any_shape_keep_it(size: tuple[int, int], cells: tuple[int, int]) -> None:
    thumbnail = encoded(photo(3, size), "PNG")
    columns, rows = cells
    text = graphics.beside("blocks", thumbnail, [])
    assert [len(BLOCK.findall(line)) for line in text.splitlines()] == [columns] * rows
    side = f"c={COLUMNS}," if size[0] > size[1] else f"r={ROWS},"
    assert side in graphics.beside("kitty", thumbnail, [])


def test_a_long_path_does_not_run_into_the_picture(
    client: Client, store: FeatureStore, picture: Path, terminal: Terminal
) -> None:
    path = "photos/" + "x" * 300 + ".jpg"
    with answer(client, hits=[HIT.model_copy(update={"path": path})]):
        assert terminal.run("query", str(picture), "--thumbnails", "kitty") == 0
    lines = [line.partition("\n")[0] for line in terminal.text().split(f"\x1b[{COLUMNS + GAP}C")[1:]]
    assert max(map(len, lines[1:-1])) == 100 - COLUMNS - GAP
    assert "".join(lines[1:-1]) == path


@pytest.mark.parametrize("wish", ["auto", "none"])
def test_without_being_asked_an_unknown_terminal_gets_no_pictures(
    wish: str, client: Client, store: FeatureStore, picture: Path, terminal: Terminal
) -> None:
    with answer(client, hits=HITS):
        assert terminal.run("query", str(picture), "--thumbnails", wish) == 0
    shown = terminal.text()
    assert "rank" in shown
    assert "\x1b_G" not in shown
    assert "▀" not in shown


def test_without_the_store_there_is_a_table_and_a_reason(
    client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answer(client):
        assert run(["query", str(picture), "--thumbnails", "blocks"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("rank  score")
    assert "No thumbnails: the store cannot be read on this host" in captured.err


# --- contact sheet -------------------------------------------------------------------------------------------


class Sheet(HTMLParser):
    """What a sheet holds."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def images(self) -> list[bytes]:
        """The pictures in it."""
        sources = [str(attributes["src"]) for tag, attributes in self.tags if tag == "img"]
        assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
        return [base64.standard_b64decode(source.partition(",")[2]) for source in sources]


def test_a_sheet_is_one_file_with_everything(
    client: Client, store: FeatureStore, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.html"
    target.write_text("an earlier one")
    with answer(client, hits=HITS):
        assert run(["query", str(picture), "--crop", "0.1,0.2,0.6,1", "--html", str(target)]) == 0
    captured = capsys.readouterr()
    assert f"Written: {target}" in captured.err
    assert "photos/gone.jpg" in captured.out  # the table as ever
    sheet = Sheet(target)
    searched, found = sheet.images()
    assert_similar(Image.open(io.BytesIO(searched)), photo(1))
    assert found == store.thumbnail(store.entry(HIT.image_id))
    for text in (
        "Similar to query.jpg",
        "query.jpg",
        "searched for",
        " · 0.9877 · 99.50 %",
        "photos/a b.jpg",
        "640 x 480 · 1.2 MB",
    ):
        assert text in sheet.texts
    assert "no preview" in sheet.texts
    assert str(picture.parent) not in target.read_text()  # the folders of this machine are nobody's business
    places = [attributes["style"] for tag, attributes in sheet.tags if attributes.get("class") == "crop"]
    assert places == ["left:10.000%;top:20.000%;width:50.000%;height:80.000%"]
    # Nothing else is fetched, and nothing runs.
    assert {tag for tag, _ in sheet.tags}.isdisjoint({"script", "link", "iframe", "object", "a"})
    assert {name for _, attributes in sheet.tags for name in attributes}.isdisjoint({"href", "srcset", "onclick"})
    assert "url(" not in target.read_text()
    assert "prefers-color-scheme: dark" in target.read_text()
    assert [path.name for path in tmp_path.glob("*out.html*")] == ["out.html"]


def test_a_sheet_shows_what_was_and_was_not_wanted_and_escapes_names(
    client: Client, store: FeatureStore, picture: Path, tmp_path: Path
) -> None:
    target, evil = tmp_path / "out.HTM", tmp_path / "evil" / EVIL.replace("/", "_")
    evil.parent.mkdir()
    photo(2).save(evil, "JPEG")
    hit = HIT.model_copy(update={"path": f"photos/{EVIL}"})
    with answer(client, hits=[hit]):
        assert run(["query", "photos/a b.jpg", "--minus", str(evil), "--html", str(target)]) == 0
    sheet = Sheet(target)
    assert "script" not in {tag for tag, _ in sheet.tags}
    assert 'photos/<script>alert("1")</script>\\x1b.jpg' in sheet.texts
    assert {"searched for · weight 1", "less like this · weight -0.5"} < set(sheet.texts)
    stored, uploaded, _ = sheet.images()
    assert stored == store.thumbnail(store.entry(HIT.image_id))
    assert_similar(Image.open(io.BytesIO(uploaded)), photo(2))


def test_a_sheet_without_the_store_has_no_pictures_of_the_results(
    client: Client, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.html"
    with answer(client):
        assert run(["query", str(picture), "--json", "--html", str(target)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("{")
    assert "No thumbnails" in captured.err
    assert len(Sheet(target).images()) == 1


def test_a_sheet_that_cannot_be_written_leaves_the_earlier_one(
    client: Client, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.html").mkdir()
    assert run(["query", str(picture), "--html", str(tmp_path / "out.html")]) == 2
    assert "is a directory" in capsys.readouterr().err
