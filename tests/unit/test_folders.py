"""Folders of the indexed images, from their paths alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from common.store import FeatureStore, folders
from common.store.folders import Folder
from tests.unit.helpers import make_store, publish

# Names that sort around "/", that SQL or LIKE could misread, and that are not ASCII.
ODD_NAMES = [
    "a",
    "a-b",
    "a.b",
    "a0",
    "a b",
    "100%",
    'say "hi"',
    "it's",
    "line\nbreak",
    "ä",
    "日本",
    "🐈",
    "\uffff",
    "_",
]
TREE = ["p/a-b.jpg", "p/a.jpg", "p/a/1.jpg", "p/a/b/2.jpg", "p/a/b/3.jpg", "p/a0.jpg", "p/c/4.jpg", "q/5.jpg"]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


def fill(store: FeatureStore, *paths: str, segment: str = "s") -> None:
    publish(store, segment, paths)
    store.refresh()


def every_child(store: FeatureStore, parent: str | None, limit: int = 1000) -> list[Folder]:
    """All children of a folder, page by page."""
    found: list[Folder] = []
    more = True
    while more:
        page, more = store.folders.children(parent, found[-1].path if found else "", limit)
        assert len(page) <= limit
        found += page
    return found


def every_direct(store: FeatureStore, parent: str, limit: int = 1000) -> list[str]:
    """All images directly in a folder, page by page."""
    found: list[str] = []
    while page := store.folders.direct(parent, found[-1] if found else "", limit):
        assert len(page) <= limit
        found += page
    return found


def expected_children(paths: list[str], parent: str | None) -> list[Folder]:
    """The same from a plain list of paths."""
    prefix = "" if parent is None else f"{parent}/"
    rests = [path[len(prefix) :] for path in paths if path.startswith(prefix)]
    names = {rest.partition("/")[0] for rest in rests if "/" in rest}
    found = []
    for name in sorted(names, key=lambda name: f"{name}/".encode()):  # as the images in them are ordered
        path = f"{prefix}{name}"
        below = [other[len(path) + 1 :] for other in paths if other.startswith(f"{path}/")]
        found.append(Folder(path, len(below), any("/" in rest for rest in below)))
    return found


def test_children_are_found_with_their_counts(store: FeatureStore) -> None:
    fill(store, *TREE)
    assert every_child(store, None) == [Folder("p", 7, True), Folder("q", 1, False)]
    assert every_child(store, "p") == [Folder("p/a", 3, True), Folder("p/c", 1, False)]
    assert every_child(store, "p/a") == [Folder("p/a/b", 2, False)]
    assert every_child(store, "p/a/b") == every_child(store, "p/a.jpg") == every_child(store, "nothing") == []
    assert [store.folders.count(parent) for parent in (None, "p", "p/a", "p/a/b", "nothing")] == [8, 7, 3, 2, 0]


def test_images_directly_in_a_folder(store: FeatureStore) -> None:
    fill(store, *TREE)
    assert store.folders.direct("p") == ["p/a-b.jpg", "p/a.jpg", "p/a0.jpg"]
    assert store.folders.direct("p/a") == ["p/a/1.jpg"]
    assert store.folders.direct("p/c") == ["p/c/4.jpg"]
    assert store.folders.direct("p/a.jpg") == store.folders.direct("nothing") == []


def test_images_behind_very_many_folders(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_JUMPS", 3)
    images = [f"p/{number}.jpg" for number in range(9)]
    fill(store, *images, *(f"p/{number}/x.jpg" for number in range(9)))
    for limit in (1, 2, 9, 100):
        assert every_direct(store, "p", limit) == images


def test_an_empty_store_has_no_folders(store: FeatureStore) -> None:
    assert store.folders.children(None) == ([], False)
    assert store.folders.count(None) == store.folders.count("p") == 0


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_is_just_a_name(store: FeatureStore, name: str) -> None:
    fill(store, f"p/{name}/{name}/x.jpg", f"p/{name}/{name}.jpg", "p/b/y.jpg", "p/z.jpg")
    found = {folder.path: folder for folder in every_child(store, "p")}
    assert found == {f"p/{name}": Folder(f"p/{name}", 2, True), "p/b": Folder("p/b", 1, False)}
    assert found[f"p/{name}"].name == name
    assert every_child(store, f"p/{name}") == [Folder(f"p/{name}/{name}", 1, False)]
    assert every_direct(store, f"p/{name}") == [f"p/{name}/{name}.jpg"]


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_any_tree_is_listed_as_a_plain_list_of_paths_says(store: FeatureStore, limit: int) -> None:
    dice = random.Random(0)
    paths = sorted({"/".join(["r", *dice.choices(ODD_NAMES, k=dice.randint(0, 3)), f"{n}.jpg"]) for n in range(200)})
    # And images whose names sort right before, between and behind the folders.
    paths += [f"r/{name}.jpg" for name in ODD_NAMES]
    paths += [f"r/a/{name}" for name in ("-", "a.jpg", "a0.jpg", "\U0010ffff")]
    fill(store, *paths)
    parents = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
    assert len(parents) > 50
    for parent in (None, *parents):
        assert every_child(store, parent, limit) == expected_children(paths, parent)
    for parent in parents:
        direct = [path for path in paths if path.rpartition("/")[0] == parent]
        assert every_direct(store, parent, limit) == sorted(direct, key=str.encode)


def test_counts_follow_what_is_indexed_and_removed(store: FeatureStore) -> None:
    fill(store, "p/a/1", "p/a/2")
    assert every_child(store, "p") == [Folder("p/a", 2, False)]
    fill(store, "p/a/b/3", "p/c/4", segment="t")
    assert every_child(store, "p") == [Folder("p/a", 3, True), Folder("p/c", 1, False)]
    publish(store, "u", [], {"p/a/1": 9, "p/a/2": 9, "p/a/b/3": 9})
    store.refresh()
    assert every_child(store, "p") == [Folder("p/c", 1, False)]
    assert (store.folders.count("p"), store.folders.count("p/a")) == (1, 0)


def test_another_process_that_changes_the_catalog_is_noticed(store: FeatureStore, tmp_path: Path) -> None:
    fill(store, "p/a/1")
    assert store.folders.count("p") == 1
    fill(make_store(tmp_path), "p/a/2", segment="t")  # the same catalog file
    assert store.folders.count("p") == 2


def test_not_more_is_remembered_than_a_server_can_afford(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_REMEMBERED", 3)
    paths = [f"p/{number}/x.jpg" for number in range(9)]
    fill(store, *paths)
    for _ in range(3):
        assert every_child(store, "p", limit=2) == expected_children(paths, "p")
        assert max(len(store.folders._counts), len(store.folders._nexts)) <= 3


def test_a_counted_folder_is_not_counted_again(store: FeatureStore) -> None:
    fill(store, *TREE)
    statements: list[str] = []
    with store.catalog.reading() as db:
        db.set_trace_callback(statements.append)
    for _ in range(3):
        every_child(store, "p")
    assert sum("count(*)" in statement for statement in statements) == 2  # its two folders, once each
