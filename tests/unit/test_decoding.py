from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from common.images import ImageDecoder
from common.library import Library
from common.settings import Settings
from tests.unit.helpers import add_picture, encoded, python_json
from workers.decoding import LOOK_AHEAD, FailedFile, FileReader, ReadFile

Reader = Callable[..., FileReader]


@pytest.fixture
def reader(settings: Settings) -> Reader:
    """Makes readers; `stored` are the contents that the store has."""

    def make(stored: frozenset[bytes] = frozenset(), max_bytes: int = 100_000) -> FileReader:
        decoder = ImageDecoder((16, 16), max_bytes=max_bytes, max_pixels=10**6, bytes_setting="MAX_FILE_BYTES")
        return FileReader(Library(settings.library_roots), decoder, stored.__contains__)

    return make


def test_a_file_is_read_hashed_and_decoded(reader: Reader, library: Path) -> None:
    path = add_picture(library, "2020/ü.png", seed=3)
    item = reader().read("photos/2020/ü.png")
    assert isinstance(item, ReadFile)
    data = path.read_bytes()
    assert item.public_path == "photos/2020/ü.png"
    assert (item.size, item.mtime_ns) == (len(data), path.stat().st_mtime_ns)
    assert item.content_hash == hashlib.sha256(data).digest()
    assert item.image is not None
    assert item.image.pixels.shape == (16, 16, 3)


def test_content_that_is_stored_is_not_decoded(reader: Reader, library: Path) -> None:
    path = library / "a.jpg"
    path.write_bytes(b"this would not decode")
    content = hashlib.sha256(path.read_bytes()).digest()
    item = reader(frozenset({content})).read("photos/a.jpg")
    assert isinstance(item, ReadFile)
    assert (item.content_hash, item.image) == (content, None)


def test_files_come_in_order_however_many_there_are(reader: Reader, library: Path) -> None:
    count = 2 * LOOK_AHEAD + 5
    names = [f"photos/{number:03}.jpg" for number in range(count)]
    for number in range(count):
        if number % 5:
            add_picture(library, f"{number:03}.jpg", seed=number)
    items = list(reader().read_ahead(names))
    assert [item.public_path for item in items] == names
    assert [isinstance(item, FailedFile) for item in items] == [number % 5 == 0 for number in range(count)]


def test_a_consumer_that_stops_early_leaves_no_thread(reader: Reader, library: Path) -> None:
    names = []
    for number in range(20):
        add_picture(library, f"{number}.jpg", seed=number)
        names.append(f"photos/{number}.jpg")
    before = threading.active_count()
    items = reader().read_ahead(names)
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert list(reader().read_ahead([])) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "The file is empty."),
        (b"text", "Not an image in a supported format"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "damaged|Not an image"),
        (b"x" * 2000, "The image has 2,000 bytes; at most 1,000 are accepted"),
    ],
)
def test_a_bad_file_fails_with_its_reason(reader: Reader, library: Path, content: bytes, reason: str) -> None:
    import re

    (library / "a.jpg").write_bytes(content)
    item = reader(max_bytes=1000).read("photos/a.jpg")
    assert isinstance(item, FailedFile)
    assert item.public_path == "photos/a.jpg"
    assert re.search(reason, item.error)


def test_what_cannot_be_read_fails_with_its_reason(reader: Reader, library: Path, tmp_path: Path) -> None:
    (library / "folder.jpg").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (library / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    reasons = {
        "photos/gone.jpg": "removed before it could be read",
        "photos/folder.jpg": "Is a directory",
        "photos/link.jpg": "outside the library",
        "photos/../x.jpg": "outside the library",
        "other/x.jpg": "outside the library",
        "photos/" + "x" * 300 + ".jpg": "File name too long",
    }
    for path, reason in reasons.items():
        item = reader().read(path)
        assert isinstance(item, FailedFile), path
        assert reason in item.error


def test_a_file_that_may_not_be_read_fails_with_its_reason(
    reader: Reader, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    add_picture(library, "a.jpg")
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    item = reader().read("photos/a.jpg")
    assert item == FailedFile("photos/a.jpg", "The file cannot be read: Permission denied", is_lasting=False)


@pytest.mark.parametrize("change", [b"more", None], ids=["grows", "shrinks"])
def test_a_file_that_changes_while_it_is_read_fails(
    reader: Reader, library: Path, monkeypatch: pytest.MonkeyPatch, change: bytes | None
) -> None:
    path = add_picture(library, "a.jpg")
    fstat = os.fstat

    def change_after(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        if change is None:
            os.truncate(path, 10)
        else:
            with path.open("ab") as file:
                file.write(change)
        return status

    monkeypatch.setattr("workers.decoding.os.fstat", change_after)
    item = reader().read("photos/a.jpg")
    monkeypatch.undo()
    assert item == FailedFile("photos/a.jpg", "The file changed while it was read.")


def test_a_picture_that_needs_too_much_memory_fails_alone(
    settings: Settings, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    add_picture(library, "a.jpg")
    decoder = ImageDecoder((16, 16), max_bytes=10**6, max_pixels=10**6, bytes_setting="X")
    monkeypatch.setattr(decoder, "decode", run_out)
    item = FileReader(Library(settings.library_roots), decoder, lambda _: False).read("photos/a.jpg")
    assert isinstance(item, FailedFile)
    assert "memory" in item.error


LARGE = """
import json, os, sys, threading, time
from pathlib import Path
from common.library import Library
from common.settings import LibraryRoot, Settings
from workers.decoders.pool import pool_for_files
from workers.decoding import FileReader

root = LibraryRoot(name="photos", path=Path(sys.argv[1]))
pool = pool_for_files(Settings(), (224, 224), threads=4)
reader = FileReader(Library((root,)), pool.for_files(Settings()), lambda _: False, threads=4)
names = sorted(f"photos/{path.name}" for path in root.path.iterdir())

def resident():
    # Of this process and its decoders, without what Python and its libraries share.
    numbers = [str(os.getpid())]
    for task in Path("/proc/self/task").iterdir():
        numbers += (task / "children").read_text().split()
    total = 0
    for number in numbers:
        try:
            status = Path(f"/proc/{number}/status").read_text().splitlines()
        except FileNotFoundError:
            continue
        total += sum(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    return total / 1024

peak, ended = 0.0, threading.Event()
def watch():
    global peak
    while not ended.wait(0.005):
        peak = max(peak, resident())

watching = threading.Thread(target=watch)
watching.start()
widths = [item.image.width for item in reader.read_ahead(names)]
ended.set()
watching.join()
pool.close()
print(json.dumps({"widths": widths, "peak_mib": peak}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_memory_stays_bounded_with_many_very_large_pictures(library: Path) -> None:
    # 100 megapixels are 400 MB, whatever the size of the file.
    large = encoded(Image.linear_gradient("L").resize((10_000, 10_000)).convert("RGB"), "JPEG", quality=30)
    for number in range(16):
        if number % 4 == 0:
            (library / f"{number:02}.jpg").write_bytes(large)
        else:
            add_picture(library, f"{number:02}.jpg", seed=number)
    outcome = python_json(LARGE, library)
    assert outcome["widths"] == [10_000 if number % 4 == 0 else 40 for number in range(16)]
    # One such picture and what Python takes. Four at a time, or memory that is not given back, take over 800 MiB.
    assert outcome["peak_mib"] < 750


@pytest.mark.parametrize("threads", [1, 5])
def test_as_many_files_are_read_at_a_time_as_there_are_threads(settings: Settings, library: Path, threads: int) -> None:
    names = [f"photos/{number}.png" for number in range(10)]
    for number in range(10):
        add_picture(library, f"{number}.png", seed=number)
    meeting = threading.Barrier(threads)

    def meet(_: bytes) -> bool:
        meeting.wait(10)
        return False

    decoder = ImageDecoder((16, 16), max_bytes=10**6, max_pixels=10**6, bytes_setting="X")
    reader = FileReader(Library(settings.library_roots), decoder, meet, threads=threads)
    assert all(isinstance(item, ReadFile) for item in reader.read_ahead(names))
    assert meeting.parties == threads
