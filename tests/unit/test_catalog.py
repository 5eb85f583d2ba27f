"""Which record stands for a path, in whatever order the segments are read."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

import pytest

from common.store import FeatureStore, image_id
from tests.unit.helpers import live, make_store, publish, record, segment_file

# Segments: name to (records as path and sequence, tombstones); and what is live once all are there.
SCENES: dict[str, tuple[dict[str, tuple[dict[str, int], dict[str, int]]], dict[str, int]]] = {
    "the highest sequence wins": (
        {"s1": ({"p/a": 5}, {}), "s2": ({"p/a": 9}, {}), "s3": ({"p/a": 7}, {})},
        {"p/a": 9},
    ),
    "a tombstone ends older records": (
        {"s1": ({"p/a": 5, "p/b": 5}, {}), "s2": ({}, {"p/a": 6}), "s3": ({"p/a": 4}, {})},
        {"p/b": 5},
    ),
    "a newer record outlives a tombstone": (
        {"s1": ({"p/a": 5}, {}), "s2": ({}, {"p/a": 6}), "s3": ({"p/a": 7}, {})},
        {"p/a": 7},
    ),
    "a record as old as the tombstone stays": ({"s1": ({"p/a": 6}, {}), "s2": ({}, {"p/a": 6})}, {"p/a": 6}),
    "the newest of many tombstones counts": (
        {"s1": ({"p/a": 5}, {"p/a": 3}), "s2": ({}, {"p/a": 8}), "s3": ({}, {"p/a": 2}), "s4": ({"p/a": 7}, {})},
        {},
    ),
    "record and tombstone in one segment": (
        {"s1": ({"p/a": 5, "p/b": 3}, {"p/a": 4, "p/b": 4}), "s2": ({"p/b": 2}, {})},
        {"p/a": 5},
    ),
    "paths that look alike are not the same": (
        {"s1": ({"p/a": 1, "p/a/b": 2, "p/A": 3, "q/a": 4}, {}), "s2": ({}, {"p/a": 9, "p": 9, "p/a/": 9})},
        {"p/a/b": 2, "p/A": 3, "q/a": 4},
    ),
}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


def put(store: FeatureStore, name: str, records: dict[str, int], tombstones: dict[str, int]) -> None:
    publish(store, name, [record(path, sequence) for path, sequence in records.items()], tombstones)


@pytest.mark.parametrize("scene", SCENES)
def test_the_order_of_arrival_does_not_matter(scene: str, tmp_path: Path) -> None:
    segments, expected = SCENES[scene]
    for number, order in enumerate(list(itertools.permutations(segments))[::2]):
        store = make_store(tmp_path / str(number))
        for name in order:
            put(store, name, *segments[name])
            store.refresh()
        assert live(store) == expected, order
        assert len(store) == len(expected)
        assert live(make_store(tmp_path / str(number), cache="another-host")) == expected


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("taken_in", [True, False], ids=["known before", "never known"])
def test_a_segment_deleted_by_hand_leaves_what_the_others_say(scene: str, taken_in: bool, tmp_path: Path) -> None:
    segments, _ = SCENES[scene]
    for victim in segments:
        store = make_store(tmp_path / victim)
        reference = make_store(tmp_path / victim / "reference")
        for name, (records, tombstones) in segments.items():
            put(store, name, records, tombstones)
            if name != victim:
                put(reference, name, records, tombstones)
        if taken_in:
            store.refresh()
        segment_file(store, victim).unlink()
        assert live(store) == live(reference), f"without {victim}"


def test_on_equal_sequence_the_image_is_there_once(store: FeatureStore) -> None:
    put(store, "s1", {"p/a": 5}, {})
    store.refresh()
    put(store, "s2", {"p/a": 5}, {})
    assert live(store) == {"p/a": 5}
    assert len(store) == 1
    # The segment read last has it: what makes a merged segment take over from its sources.
    names = {row.id: row.name for row in store.catalog.segments()}
    entry = store.catalog.by_path("p/a")
    assert entry is not None
    assert names[entry.segment_id] == "s2"


def test_an_entry_is_found_by_path_id_and_row(store: FeatureStore) -> None:
    rows = [record("photos/ü/a b.jpg", 3), record("scans/x.tif", 4)]
    publish(store, "s", rows)
    store.refresh()
    for number, row in enumerate(rows):
        entry = store.catalog.by_path(row.public_path)
        assert entry is not None
        assert entry.record == row
        assert entry.path == row.public_path
        assert entry.image_id == image_id(row.public_path)
        assert store.catalog.by_id(entry.image_id) == entry
        assert store.catalog.by_rows([(entry.segment_id, number)]) == {(entry.segment_id, number): entry}


def test_many_rows_are_looked_up_together(store: FeatureStore) -> None:
    publish(store, "s1", [f"p/{number:04}" for number in range(1000)])
    publish(store, "s2", ["p/0500", "q/a"], {"p/0007": 9})
    store.refresh()
    first, second = (row.id for row in store.catalog.segments())
    places = [(first, row) for row in range(1000)] + [(second, 0), (second, 1)]
    found = store.catalog.by_rows(reversed(places))
    dead = {(first, 7), (first, 500)}
    assert found.keys() == set(places) - dead
    assert all((entry.segment_id, entry.row) == place for place, entry in found.items())
    assert found[second, 0].path == "p/0500"
    assert found[first, 999] == store.catalog.by_path("p/0999")
    assert store.catalog.by_rows([*dead, (first, 1000), (99, 0)]) == {}
    assert store.catalog.by_rows([]) == {}


@pytest.mark.parametrize("wrong", ["", "nonsense", "ab", "é", "0" * 32, "0" * 33])
def test_an_unknown_id_is_not_found(store: FeatureStore, wrong: str) -> None:
    publish(store, "s", ["photos/a"])
    store.refresh()
    assert store.catalog.by_id(wrong) is None


def test_an_id_depends_on_the_path_alone() -> None:
    # Links to pictures lie in people's bookmarks: these values must never change.
    assert image_id("photos/a.jpg") == "eea2c680d629b11d02e48cf37b1213a4"
    assert len({image_id(path) for path in ("a/b", "a/B", "a/b/", "ab", "a/b ")}) == 5


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        (None, ["a/b.jpg", "a/b/c.jpg", "a/b/c/d.jpg", "a/bc/e.jpg", "b/b/f.jpg", "ä/g.jpg"]),
        ("a", ["a/b.jpg", "a/b/c.jpg", "a/b/c/d.jpg", "a/bc/e.jpg"]),
        ("a/b", ["a/b/c.jpg", "a/b/c/d.jpg"]),
        ("a/b/c", ["a/b/c/d.jpg"]),
        ("a/bc", ["a/bc/e.jpg"]),
        ("a/b.jpg", []),
        ("ä", ["ä/g.jpg"]),
        ("c", []),
        ("a/%", []),
    ],
)
def test_images_below_a_folder_are_listed_in_order(
    store: FeatureStore, folder: str | None, expected: list[str]
) -> None:
    publish(store, "s1", ["b/b/f.jpg", "a/b/c/d.jpg", "a/b.jpg", "ä/g.jpg"])
    publish(store, "s2", ["a/bc/e.jpg", "a/b/c.jpg"])
    store.refresh()
    assert [entry.path for entry in store.catalog.below(folder)] == expected
    if folder is not None:
        found = store.catalog.rows_below(folder)
        entries = store.catalog.by_rows((segment, row) for segment, rows in found.items() for row in rows)
        assert sorted(entry.path for entry in entries.values()) == sorted(expected)


def test_pages_follow_each_other_without_gap_or_repetition(store: FeatureStore) -> None:
    names = sorted(f"p/{number % 7}/{number}.jpg" for number in range(50))
    publish(store, "s", names)
    store.refresh()
    pages: list[str] = []
    after = ""
    while page := [entry.path for entry in store.catalog.below("p", after, 7)]:
        assert len(page) <= 7
        pages += page
        after = page[-1]
    assert pages == names


def test_paths_are_in_byte_order(store: FeatureStore) -> None:
    names = ["p/a", "p/a-b.jpg", "p/a.jpg", "p/a/b.jpg", "p/a0", "p/B", "p/é", "p/\U0001f600", "p/\uffff", "p/z"]
    publish(store, "s", names)
    store.refresh()
    assert [entry.path for entry in store.catalog.below(None)] == sorted(names, key=str.encode)


def test_content_is_found_while_any_row_has_it(store: FeatureStore) -> None:
    first, second = record("p/a", 1, "same"), record("p/b", 2, "same")
    publish(store, "s1", [first])
    publish(store, "s2", [], {"p/a": 9})
    store.refresh()
    assert store.has_content(first.content_hash)
    publish(store, "s3", [second])
    store.refresh()
    stored = store.content(second.content_hash)
    assert stored is not None
    assert (stored.width, stored.height) == (second.width, second.height)
    assert not store.has_content(b"\1" * 32)
    assert store.content(b"\1" * 32) is None


def test_a_sequence_is_above_all_that_is_stored(store: FeatureStore) -> None:
    far = 4 * 10**18
    assert 10**18 < store.next_sequence() < far
    publish(store, "s1", [record("p/a", far)])
    assert store.next_sequence() == far + 1
    publish(store, "s2", [], {"p/a": far + 5})
    assert store.next_sequence() == far + 6


def test_an_exception_drops_the_whole_change(store: FeatureStore) -> None:
    publish(store, "s", ["p/a"])
    store.refresh()

    def clear_and_stumble() -> None:
        with store.catalog.writing() as db:
            store.catalog.clear(db)
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        clear_and_stumble()
    assert [entry.path for entry in store.catalog.below(None)] == ["p/a"]


def test_the_rows_of_a_segment_below_a_folder(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    publish(store, "s1", ["p/a/1", "p/ab/2", "p/a/b/3", "q/a/4", "p/a.jpg"])
    publish(store, "s2", ["p/a/5"], {"p/a/1": 9})
    store.refresh()
    ids = {row.name: row.id for row in store.catalog.segments()}
    assert store.catalog.rows(ids["s1"], "p/a") == [2]
    assert store.catalog.rows(ids["s1"], "p") == [1, 2, 4]
    assert store.catalog.rows(ids["s2"], "p/a") == [0]
    assert store.catalog.rows(ids["s2"], "q") == []


def test_a_commit_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    catalog = make_store(tmp_path).catalog
    catalog._db.execute("PRAGMA foreign_keys = ON")

    def change() -> None:
        with catalog.writing() as db:
            db.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
            db.execute("CREATE TABLE children (parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")
            db.execute("INSERT INTO children VALUES (1)")  # checked by the commit

    with pytest.raises(sqlite3.IntegrityError):
        change()
    with catalog.writing() as db:
        catalog.bump(db)
    assert catalog.generation == 1


def test_a_transaction_that_sqlite_has_ended_itself_keeps_its_error(tmp_path: Path) -> None:
    catalog = make_store(tmp_path).catalog

    def change() -> None:
        with catalog.writing() as db:
            db.execute("ROLLBACK")  # as SQLite does on a full disk
            raise RuntimeError("the reason")

    with pytest.raises(RuntimeError, match="the reason"):
        change()
    with catalog.writing() as db:
        catalog.bump(db)
    assert catalog.generation == 1
