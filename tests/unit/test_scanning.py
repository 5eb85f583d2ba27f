from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import FolderNotFound, OutsideLibrary
from common.library import Library, Location
from common.settings import LibraryRoot
from workers.scanning import FoundFile, ScanProblem, scan


@pytest.fixture
def roots(library: Path) -> Library:
    return Library((LibraryRoot(name="photos", path=library),))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def found(roots: Library, folder: str = "photos") -> list[str]:
    """The paths of the files; there must be no problem."""
    items = list(scan(roots, Location.parse(folder)))
    assert [item for item in items if isinstance(item, ScanProblem)] == []
    return [item.public_path for item in items]


def problems(roots: Library) -> list[ScanProblem]:
    return [item for item in scan(roots, Location("photos", "")) if isinstance(item, ScanProblem)]


def test_an_empty_folder_has_no_files(roots: Library) -> None:
    assert found(roots) == []


def test_a_file_comes_with_its_size_and_time(roots: Library, library: Path) -> None:
    touch(library, "2020/ü.jpg")
    os.utime(library / "2020" / "ü.jpg", ns=(1, 1_600_000_000_123_456_789))
    assert list(scan(roots, Location("photos", ""))) == [FoundFile("photos/2020/ü.jpg", 11, 1_600_000_000_123_456_789)]


def test_only_the_folder_is_scanned_at_any_depth(roots: Library, library: Path) -> None:
    touch(library, "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg", "ab/4.jpg", "5.jpg")
    assert found(roots, "photos/a") == ["photos/a/1.jpg", "photos/a/b/2.jpg", "photos/a/b/c/3.jpg"]


@pytest.mark.parametrize("name", ["a.jpg", "A.JPG", "b.JpEg", "c.Webp", "d.HEIC", "e.tar.png", "f.psd", "g.JXL"])
def test_names_of_pictures_count_in_any_case(roots: Library, library: Path, name: str) -> None:
    touch(library, name)
    assert found(roots) == [f"photos/{name}"]


@pytest.mark.parametrize("name", ["a.txt", "jpg", "a.jpg.xmp", "a.jpg~", "a.", "a", "thumbs.db", "a.mp4", "a.jpg "])
def test_other_files_are_left_out(roots: Library, library: Path, name: str) -> None:
    touch(library, name)
    assert found(roots) == []


@pytest.mark.parametrize(
    "name", [".a.jpg", ".hidden/a.jpg", "x/.git/a.jpg", "@eaDir/a.jpg", "x/#recycle/a.jpg", "lost+found/a.jpg", ".jpg"]
)
def test_hidden_files_and_the_waste_of_devices_are_left_out(roots: Library, library: Path, name: str) -> None:
    touch(library, name, "b.jpg")
    assert found(roots) == ["photos/b.jpg"]


def test_files_come_in_the_byte_order_of_their_paths(roots: Library, library: Path) -> None:
    names = ["a.jpg/x.jpg", "a/b.jpg", "a/b/c.jpg", "a-b.jpg", "a.jpeg", "a0.jpg", "B.jpg", "é.jpg", "z.jpg"]
    names += ["\uffff.jpg", "\U0001f600.jpg", "a b/c.jpg", "a/B.jpg", "a!/x.jpg"]
    touch(library, *names)
    assert found(roots) == sorted((f"photos/{name}" for name in names), key=str.encode)


def test_thousands_of_files_are_found(roots: Library, library: Path) -> None:
    for number in range(50):
        (library / f"{number:03}").mkdir()
        for file in range(100):
            (library / f"{number:03}" / f"{file}.jpg").touch()
    paths = found(roots)
    assert len(set(paths)) == 5000
    assert paths == sorted(paths, key=str.encode)


@pytest.fixture
def deep(library: Path) -> Iterator[str]:
    """A folder nested deeper than Python calls; pytest could not remove it. Gives its public path."""
    here = os.open(library, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("deep.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    yield "photos" + "/d" * 1200
    subprocess.run(["rm", "-rf", str(library)], check=True)


def test_a_very_deep_folder_is_scanned(roots: Library, library: Path, deep: str) -> None:
    touch(library, "z.jpg")
    assert found(roots) == [f"{deep}/deep.jpg", "photos/z.jpg"]


# --- links -------------------------------------------------------------------------------------------------------


def test_links_to_folders_are_not_followed_and_a_loop_ends(roots: Library, library: Path) -> None:
    touch(library, "a/b/1.jpg")
    (library / "a" / "b" / "up").symlink_to(library)
    (library / "a" / "loop.jpg").symlink_to(library / "a")
    (library / "again").symlink_to(library / "a" / "b")
    assert found(roots) == ["photos/a/b/1.jpg"]


def test_a_link_to_a_file_of_the_library_counts(roots: Library, library: Path) -> None:
    touch(library, "a.jpg")
    (library / "link.jpg").symlink_to(library / "a.jpg")
    assert found(roots) == ["photos/a.jpg", "photos/link.jpg"]


def test_a_link_out_of_the_library_is_a_problem(roots: Library, library: Path, tmp_path: Path) -> None:
    touch(tmp_path, "secret.jpg")
    (library / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (library / "folder").symlink_to(tmp_path)
    assert problems(roots) == [ScanProblem("photos/link.jpg", "The link points out of the library.", is_folder=False)]


def test_a_broken_link_is_a_problem_of_its_own(roots: Library, library: Path) -> None:
    touch(library, "a.jpg")
    (library / "broken.jpg").symlink_to(library / "gone.jpg")
    (library / "self.jpg").symlink_to(library / "self.jpg")
    assert [item.public_path for item in problems(roots)] == ["photos/broken.jpg", "photos/self.jpg"]


# --- what cannot be read -----------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_read_does_not_stop_the_scan(
    roots: Library, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(library, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    scandir = os.scandir

    def refuse_one(path: Any) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_one)
    items = list(scan(roots, Location("photos", "")))
    assert [item.public_path for item in items] == ["photos/a/1.jpg", "photos/b", "photos/c/3.jpg"]
    assert items[1] == ScanProblem("photos/b", "The folder cannot be read: Permission denied", is_folder=True)


def test_names_that_are_no_text_are_problems_that_can_be_printed(roots: Library, library: Path) -> None:
    os.close(os.open(os.fsencode(library) + b"/caf\xe9.jpg", os.O_CREAT | os.O_WRONLY))
    touch(library, os.fsdecode(b"folder\xff/x.jpg"))
    touch(library, "cafz.jpg")
    items = problems(roots)
    assert sorted(item.error for item in items) == ["The name is not valid UTF-8: rename it."] * 2
    for item in items:
        item.public_path.encode()
        assert "\\x" in item.public_path or "\\udc" in item.public_path


def test_what_is_no_regular_file_is_left_out(roots: Library, library: Path) -> None:
    os.mkfifo(library / "pipe.jpg")
    touch(library, "folder.jpg/a.jpg")
    assert found(roots) == ["photos/folder.jpg/a.jpg"]


def test_a_file_that_vanishes_during_the_scan_is_a_problem(roots: Library, library: Path) -> None:
    touch(library, "a.jpg", "b.jpg")
    items: Iterator[FoundFile | ScanProblem] = scan(roots, Location("photos", ""))
    assert next(items).public_path == "photos/a.jpg"
    (library / "b.jpg").unlink()
    (item,) = items
    assert isinstance(item, ScanProblem)
    assert "No such file" in item.error


@pytest.mark.parametrize(("folder", "error"), [("photos/missing", FolderNotFound), ("other", OutsideLibrary)])
def test_a_folder_that_is_not_there_is_an_error(roots: Library, folder: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(scan(roots, Location.parse(folder)))
