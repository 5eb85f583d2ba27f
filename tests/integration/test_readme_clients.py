"""The clients in README.md, as they stand there, against a whole running system."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.system import System, running_web
from tests.integration.conftest import fill
from tests.pictures import photo
from tests.unit.helpers import REPOSITORY

PICTURES = 40


@pytest.fixture
def site(running: System) -> Iterator[str]:
    """The web tier of the running system."""
    with running_web(running.settings) as address:
        yield address


@pytest.fixture
def folder(running: System, tmp_path: Path) -> Path:
    """A working folder with `photo.jpg`, while the library has the same picture among others."""
    fill(running.settings.library_roots[0].path / "2026", range(PICTURES))
    folder = tmp_path / "work"
    folder.mkdir()
    photo(7).save(folder / "photo.jpg", quality=90)
    return folder


def example(language: str, site: str) -> str:
    """The first block in a language in the section of the API, for the server and the library of the test."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## The API$(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert section
    block = re.search(rf"^```{language}$\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    assert block
    code = block[1]
    for said, meant in (("http://127.0.0.1:8000", site), ("Pictures/2026", "photos/2026")):
        assert said in code
        code = code.replace(said, meant)
    return code


def run(command: list[str], folder: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_client_indexes_searches_and_pages(site: str, folder: Path) -> None:
    lines = run([sys.executable, "-c", example("python", site)], folder).splitlines()
    assert lines[0] == f"done: {PICTURES} indexed, 0 unchanged, 0 failed"
    found = [line.split() for line in lines[1:]]
    assert found[0] == ["1", "1.000", "photos/2026/0007.jpg"]
    assert [rank for rank, _, _ in found] == [str(rank) for rank in range(1, PICTURES + 1)]
    assert len({path for _, _, path in found}) == PICTURES


def test_curl_commands_index_search_and_page(site: str, folder: Path) -> None:
    job = json.loads(run(["bash", "-euo", "pipefail", "-c", example("sh", site)], folder))
    assert (job["state"], job["done"]) == ("done", PICTURES)
    first, second = (json.loads((folder / f"page{page}.json").read_text())["results"] for page in (1, 2))
    assert (first[0]["path"], first[0]["rank"]) == ("photos/2026/0007.jpg", 1)
    assert [hit["rank"] for hit in first + second] == list(range(1, PICTURES + 1))
    assert len({hit["path"] for hit in first + second}) == PICTURES
