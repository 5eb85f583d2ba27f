from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import FolderNotFound, OutsideLibrary
from common.library import Library, Location
from common.settings import LibraryRoot


def library_of(**roots: Path) -> Library:
    return Library(tuple(LibraryRoot(name=name, path=path) for name, path in roots.items()))


@pytest.fixture
def photos(library: Path) -> Library:
    (library / "2020" / "may").mkdir(parents=True)
    (library / "2020" / "a.jpg").write_bytes(b"a")
    return library_of(photos=library)


@pytest.mark.parametrize(
    ("public", "root", "relative"),
    [
        ("photos", "photos", ""),
        ("photos/", "photos", ""),
        ("/photos/2020/", "photos", "2020"),
        ("photos//2020/./a.jpg", "photos", "2020/a.jpg"),
        ("photos/a b/ü.jpg", "photos", "a b/ü.jpg"),
        ("photos/..a/b..", "photos", "..a/b.."),
        ("photos/line\nbreak", "photos", "line\nbreak"),
    ],
)
def test_a_public_path_is_parsed(public: str, root: str, relative: str) -> None:
    location = Location.parse(public)
    assert (location.root, location.relative) == (root, relative)
    assert Location.parse(location.public) == location


@pytest.mark.parametrize(
    "public", ["", "/", "..", "../photos", "photos/..", "photos/../../etc", "photos/a\0b", "photos/\ud800"]
)
def test_a_public_path_that_cannot_be_one_is_refused(public: str, photos: Library) -> None:
    with pytest.raises(OutsideLibrary):
        Location.parse(public)
    with pytest.raises(OutsideLibrary):
        photos.locate(public)


@pytest.mark.parametrize("folder", ["photos/2020", "/photos-parent-is-added", "photos/2020/"])
def test_a_folder_is_found_by_both_spellings(folder: str, photos: Library, library: Path) -> None:
    spelled = str(library / "2020") if folder.startswith("/") else folder
    assert photos.locate(spelled) == Location("photos", "2020")


def test_the_root_itself_is_found_by_both_spellings(photos: Library, library: Path) -> None:
    assert (
        photos.locate("photos") == photos.locate(str(library)) == photos.locate(f"{library}/") == Location("photos", "")
    )


@pytest.mark.parametrize(
    "folder",
    ["other/2020", "/etc", "/", "{library}/../secret", "{library}/2020/../../secret", "{library}x", "/a\0b", "/\ud800"],
)
def test_a_folder_under_no_root_is_refused_and_the_roots_are_named(folder: str, photos: Library, library: Path) -> None:
    with pytest.raises(OutsideLibrary, match="photos") as caught:
        photos.locate(folder.replace("{library}", str(library)))
    assert str(library) in str(caught.value)


def test_dots_inside_an_absolute_path_are_resolved(photos: Library, library: Path) -> None:
    assert photos.locate(f"{library}/2020/../2020/may") == Location("photos", "2020/may")


def test_a_location_resolves_to_the_path_on_this_host(photos: Library, library: Path) -> None:
    assert photos.resolve(Location("photos", "2020/a.jpg")) == (library / "2020" / "a.jpg").resolve()
    assert photos.resolve_folder(Location("photos", "")) == library.resolve()


@pytest.mark.parametrize(
    "location",
    [Location("other", "a"), Location("photos", "../x"), Location("photos", "/etc/passwd"), Location("photos", "..")],
)
def test_a_location_that_leads_out_is_refused(location: Location, photos: Library) -> None:
    with pytest.raises(OutsideLibrary):
        photos.resolve(location)


@pytest.mark.parametrize("relative", ["2020/a.jpg", "missing", "2020/a.jpg/below", "x" * 300, "d/" * 3000])
def test_what_is_no_folder_is_not_found(relative: str, photos: Library) -> None:
    with pytest.raises(FolderNotFound):
        photos.resolve_folder(Location("photos", relative))


def test_a_link_out_of_the_library_is_refused(photos: Library, library: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.jpg").write_bytes(b"secret")
    (library / "link").symlink_to(secret)
    (library / "a.jpg").symlink_to(secret / "a.jpg")
    for relative in ("link", "link/a.jpg", "a.jpg"):
        with pytest.raises(OutsideLibrary):
            photos.resolve(Location("photos", relative))
        assert not photos.contains(library / relative)


def test_a_link_inside_the_library_is_followed(photos: Library, library: Path) -> None:
    (library / "link").symlink_to(library / "2020")
    assert photos.resolve(Location("photos", "link/a.jpg")) == (library / "2020" / "a.jpg").resolve()
    assert photos.contains(library / "link" / "a.jpg")


def test_a_link_into_another_root_is_followed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b")
    library = library_of(a=tmp_path / "a", b=tmp_path / "b")
    assert library.resolve(Location("a", "link")) == (tmp_path / "b").resolve()


def test_the_innermost_of_nested_roots_is_meant(tmp_path: Path) -> None:
    (tmp_path / "all" / "best").mkdir(parents=True)
    for roots in ({"all": "all", "best": "all/best"}, {"best": "all/best", "all": "all"}):
        library = library_of(**{name: tmp_path / path for name, path in roots.items()})
        assert library.locate(f"{tmp_path}/all/best/x") == Location("best", "x")
        assert library.locate(f"{tmp_path}/all/x") == Location("all", "x")
        assert library.locate("all/best/x") == Location("all", "best/x")


def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    real = tmp_path / "disk"
    (real / "2020").mkdir(parents=True)
    (tmp_path / "photos").symlink_to(real)
    library = library_of(photos=tmp_path / "photos")
    for spelled in (tmp_path / "photos" / "2020", real / "2020"):
        assert library.locate(str(spelled)) == Location("photos", "2020")
    assert library.resolve_folder(Location("photos", "2020")) == (real / "2020").resolve()
    assert library.contains(real / "2020")


def test_a_root_that_is_not_mounted_is_still_located(tmp_path: Path) -> None:
    library = library_of(disk=tmp_path / "disk")
    assert not library.is_mounted("disk")
    assert not library.is_mounted("unknown")
    assert library.locate("disk/2020") == Location("disk", "2020")
    with pytest.raises(FolderNotFound):
        library.resolve_folder(Location("disk", "2020"))


def test_a_root_that_is_mounted_later_is_seen(tmp_path: Path) -> None:
    library = library_of(disk=tmp_path / "disk")
    (tmp_path / "disk").mkdir()
    assert library.is_mounted("disk")
    assert library.names == ["disk"]
