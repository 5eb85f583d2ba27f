"""What `query` asks for, and the answer as a table or as JSON; the worker is played by the tests."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from common.cli.app import run
from common.cli.sources import Source
from common.jobs import Client
from common.store import image_id
from tests.pictures import photo
from tests.unit.cli.conftest import Terminal
from tests.unit.cli.players import HIT, answer, json_of, worker

RANKED = HIT.model_copy(update={"percentile": 99.999})


# --- answers -------------------------------------------------------------------------------------------------


def test_query_prints_a_table(client: Client, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answer(client):
        assert run(["query", str(picture), "-k", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "rank  score   distance  path",
        "   1  0.9877  0.1570    photos/a b.jpg",
    ]
    assert captured.err == "The model is untrained: results match colour and texture only. See: imagesearch weights\n"


def test_query_shows_percentiles_where_they_are_known(
    client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answer(client, hits=[RANKED, HIT.model_copy(update={"rank": 2})]):
        assert run(["query", str(picture)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rank  score   percentile  distance  path",
        "   1  0.9877  99.99       0.1570    photos/a b.jpg",
        "   2  0.9877              0.1570    photos/a b.jpg",
    ]


def test_query_prints_json(client: Client, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answer(client):
        assert run(["query", str(picture), "--json"]) == 0
    assert json_of(capsys)["results"][0]["path"] == "photos/a b.jpg"


def test_a_terminal_shows_colours_links_and_how_to_go_on(
    client: Client, library: Path, picture: Path, terminal: Terminal
) -> None:
    (library / "a b.jpg").write_bytes(b"here")
    elsewhere = HIT.model_copy(update={"path": "photos/" + "long/" * 40 + "b.jpg", "rank": 2})
    with answer(client, hits=[RANKED, elsewhere], next_cursor="abc", took_ms={"embed": 30.0}):
        assert terminal.run("query", str(picture)) == 0
    shown = terminal.text()
    assert "\x1b[36m0.9877\x1b[0m" in shown
    assert f"{library}/a%20b.jpg\x1b\\photos/a b.jpg\x1b]8;;\x1b\\" in shown
    # A path is not broken: the terminal wraps it, and it can be copied.
    assert f"{elsewhere.path}\n" in shown
    assert "1,234 pictures searched in " in shown
    assert "imagesearch query --cursor abc" in shown


def test_no_color_takes_the_colours_away(
    client: Client, picture: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with answer(client):
        assert terminal.run("query", str(picture)) == 0
    shown = terminal.text()
    assert "photos/a b.jpg" in shown
    assert "\x1b[3" not in shown


def test_nothing_found_is_said(client: Client, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answer(client, hits=[]):
        assert run(["query", str(picture), "--min-score", "0.99"]) == 0
    assert "Nothing was found" in capsys.readouterr().err
    with answer(client, hits=[], indexed=0):
        assert run(["query", str(picture)]) == 0
    captured = capsys.readouterr()
    assert "Nothing is indexed yet" in captured.err
    assert captured.out == ""


def test_a_failed_search_is_exit_code_1(client: Client, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answer(client, error="The image is damaged."):
        assert run(["query", str(picture), "--json"]) == 1
    assert json_of(capsys) == {"error": "The image is damaged."}


def test_query_without_a_query_worker_fails_at_once(
    client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(client, "bulk"):
        assert run(["query", str(picture)]) == 3
    assert "No query worker is running" in capsys.readouterr().err
    assert client.waiting_searches() == 0


def test_query_says_what_its_worker_waits_for(
    client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(client, "query", state="waiting", detail="no weights"):
        assert run(["query", str(picture)]) == 3
    assert "no weights" in capsys.readouterr().err


# --- questions -----------------------------------------------------------------------------------------------


def test_all_options_of_the_api_can_be_given(client: Client, library: Path, picture: Path) -> None:
    (library / "shop").mkdir()
    options = ["--folder", str(library / "shop"), "-k", "7", "--min-score", "-0.25", "--crop", "0,0.25,0.5,1"]
    with answer(client) as taken:
        assert run(["query", str(picture), *options]) == 0
    asked = taken[0].record.query
    assert (asked.folder, asked.k, asked.min_score, asked.crop) == ("photos/shop", 7, -0.25, (0, 0.25, 0.5, 1))
    assert taken[0].uploads == (picture.read_bytes(),)


def test_query_takes_several_pictures_and_what_they_shall_not_be_like(
    client: Client, picture: Path, tmp_path: Path
) -> None:
    others = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, path in enumerate(others, 2):
        photo(number).save(path)
    with answer(client) as taken:
        arguments = [str(picture), str(others[0]), "--minus", str(others[1]), "--minus", str(others[2])]
        assert run(["query", *arguments]) == 0
    assert taken[0].uploads == tuple(path.read_bytes() for path in (picture, *others))
    assert [image.weight for image in taken[0].record.query.pictures] == [0.5, 0.5, -0.25, -0.25]


def test_indexed_pictures_are_named_by_path_or_id(client: Client, picture: Path) -> None:
    one, other = image_id("photos/a b.jpg"), image_id("photos/c.jpg")
    with answer(client) as taken:
        assert run(["query", "photos/a b.jpg"]) == 0
    assert (taken[0].record.query.image_id, taken[0].record.query.images) == (one, ())
    assert taken[0].uploads == ()
    client.redis.flushall()
    with answer(client) as taken:
        assert run(["query", other, str(picture), "photos/a b.jpg", "--weights", "1,0.5,-2"]) == 0
    found = [(image.image_id, image.weight) for image in taken[0].record.query.pictures]
    assert found == [(other, 1), (None, 0.5), (one, -2)]
    assert taken[0].uploads == (picture.read_bytes(),)


def test_a_picture_comes_from_standard_input(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a picture")))
    with answer(client) as taken:
        assert run(["query", "-"]) == 0
    assert taken[0].uploads == (b"a picture",)


@pytest.fixture
def site() -> Iterator[str]:
    """A web site with one picture."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/cat.jpg" else 404)
            self.end_headers()
            self.wfile.write(b"a picture")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_picture_comes_from_an_address(client: Client, site: str, capsys: pytest.CaptureFixture[str]) -> None:
    with answer(client) as taken:
        assert run(["query", f"{site}/cat.jpg"]) == 0
    assert taken[0].uploads == (b"a picture",)
    assert run(["query", f"{site}/dog.jpg"]) == 1
    assert f"{site}/dog.jpg cannot be fetched: Not Found" in capsys.readouterr().err


def test_a_cursor_goes_on_with_an_earlier_query(
    client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answer(client, next_cursor="there is more") as first:
        assert run(["query", str(picture), "-k", "3", "--json"]) == 0
    search_id = first[0].record.result.id
    client.redis.hset(f"imagesearch:search:{search_id}:feature", mapping={"fingerprint": "x", "data": b""})
    capsys.readouterr()
    with answer(client, hits=[HIT.model_copy(update={"rank": 4})]) as second:
        assert run(["query", "--cursor", search_id, "--json"]) == 0
    assert json_of(capsys)["results"][0]["rank"] == 4
    after = second[0].record.query.after
    assert after is not None
    assert (after.search_id, after.rank, second[0].record.query.k) == (search_id, 1, 3)
    with worker(client, "query"):
        assert run(["query", "--cursor", "unknown"]) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument 'IMAGE...'"),
        (["--minus", "{}"], "Missing argument 'IMAGE...'"),
        (["{}"] * 12 + ["--minus", "{}"] * 5, "At most 16"),
        (["{}", "--crop", "0,0,1"], "left,top,right,bottom"),
        (["{}", "--crop", "a,b,c,d"], "no list of numbers"),
        (["{}", "--crop", "0,0,nan,1"], "no list of numbers"),
        (["{}", "--crop", "0,0,2,1"], "from 0 to 1"),
        (["{}", "--crop", "0.5,0,0.5,1"], "left must be less than right"),
        (["{}", "{}", "--crop", "0,0,1,1"], "single picture"),
        (["{}", "--weights", "1,2"], "2 weights for 1 pictures"),
        (["{}", "--weights", "-1"], "at least one must be positive"),
        (["{}", "--weights", "11"], "from -10 to 10"),
        (["{}", "--weights", "1", "--minus", "{}"], "either --minus or --weights"),
        (["{}", "--min-score", "1.5"], "--min-score"),
        (["{}", "-k", "1001"], "-k"),
        (["{}", "--cursor", "abc"], "only -k"),
        (["--cursor", "abc", "--min-score", "0"], "only -k"),
        (["-", "-"], "only one picture"),
        (["/usr"], "is a folder"),
        (["nowhere/a.jpg"], "no indexed picture such as photos/2026/cat.jpg"),
        (["photos/../../etc/passwd"], "outside the library"),
        (["{}", "--folder", "/usr"], "outside the library"),
        (["{}", "--html", "{}"], "does not end in .html"),
        (["{}", "--html", "/nowhere/a.html"], "there is no folder"),
        (["{}", "--json", "--thumbnails", "kitty"], "without --thumbnails"),
    ],
)
def test_what_cannot_be_asked_is_wrong_use(
    arguments: list[str], complaint: str, client: Client, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = picture.read_bytes()
    with worker(client, "query"):
        assert run(["query", *(text.format(picture) for text in arguments)]) == 2
    assert complaint in capsys.readouterr().err
    assert client.waiting_searches() == 0
    assert picture.read_bytes() == before


def test_query_refuses_what_is_too_large(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGESEARCH_MAX_UPLOAD_BYTES", "10")
    size = picture.stat().st_size
    assert run(["query", str(picture)]) == 1
    assert f"has {size:,} bytes; at most 10 are accepted" in capsys.readouterr().err
    monkeypatch.setenv("IMAGESEARCH_MAX_UPLOAD_BYTES", str(2 * size - 1))
    assert run(["query", str(picture), str(picture)]) == 1
    assert f"has {2 * size:,} bytes" in capsys.readouterr().err


def test_a_search_that_nobody_answers_ends(
    client: Client, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGESEARCH_SEARCH_TIMEOUT_SECONDS", "1")
    began = time.monotonic()
    with worker(client, "query"):
        assert run(["query", str(picture)]) == 1
    assert time.monotonic() - began >= 1
    assert "No query worker answered within 1 s" in capsys.readouterr().err


def test_pictures_are_called_without_what_is_private(picture: Path) -> None:
    def label(name: str, **fields: str) -> str:
        return Source(name, 1, **fields).label

    assert label(str(picture)) == "query.jpg"
    assert label("photos/a b.jpg", image_id="x") == "photos/a b.jpg"
    assert label("-") == "standard input"
    assert label("https://me:secret@example.org/cat.jpg?token=1") == "example.org/cat.jpg"
