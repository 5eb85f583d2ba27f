"""Copies of the store's folder that are made while it changes."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from common.store import FeatureStore, compact, remove_replaced
from tests.unit.helpers import live, make_store, publish, record, segment_file

KEEP = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = make_store(tmp_path / "data")
    for number in range(4):
        publish(store, f"s{number}", [record(f"p/{number}", number + 1)])
    return store


def names(store: FeatureStore) -> set[str]:
    return {path.stem for path in store.segments_path.glob("*.h5")}


def copy_of(store: FeatureStore, listing: list[str], folder: Path) -> FeatureStore:
    """What a program copies that has listed the segments before."""
    copy = folder / "stores" / store.path.name
    (copy / "segments").mkdir(parents=True)
    shutil.copy2(store.path / "store.json", copy)
    for name in listing:
        shutil.copy2(store.segments_path / name, copy / "segments")
    return FeatureStore(copy, store.spec, folder / "cache")


def age(store: FeatureStore) -> None:
    """Makes all replacements older than they are kept."""
    for note in store.segments_path.glob("*.replaced-by.*"):
        os.utime(note, (time.time() - 2 * KEEP,) * 2)


def test_sources_stay_for_a_while_and_do_not_count(store: FeatureStore) -> None:
    before = live(store)
    assert compact(store, keep_seconds=KEEP).merged == 4
    assert len(names(store)) == 5
    assert live(store) == before
    assert len(store.catalog.segments()) == 1
    assert live(make_store(store.path.parents[1], cache="fresh")) == before
    assert compact(store, keep_seconds=KEEP).merged == 0
    assert remove_replaced(store, KEEP) == 0
    age(store)
    assert remove_replaced(store, KEEP) == 4
    assert len(list(store.segments_path.iterdir())) == 1
    assert live(store) == before


def test_a_copy_that_was_listed_before_a_compaction_has_everything(store: FeatureStore, tmp_path: Path) -> None:
    before = live(store)
    listing = [path.name for path in store.segments_path.iterdir()]
    compact(store, keep_seconds=KEEP)
    # A listing that takes its time may see a note, and miss the merged segment.
    listing += [path.name for path in store.segments_path.glob("s1.replaced-by.*")]
    copy = copy_of(store, listing, tmp_path / "copy")
    assert live(copy) == before
    age(copy)
    assert remove_replaced(copy, KEEP) == 0
    assert live(copy) == before
    assert not list(copy.segments_path.glob("*.replaced-by.*"))


def test_a_segment_of_which_nothing_is_left_stays_for_a_while(store: FeatureStore, tmp_path: Path) -> None:
    compact(store)
    old = names(store).pop()
    listing = [path.name for path in store.segments_path.iterdir()]
    before = live(store)
    publish(store, "new", [record(f"p/{number}", 100) for number in range(4)], precision="bfloat16")
    after = live(store)
    compact(store, keep_seconds=KEEP)
    assert names(store) == {old, "new"}
    listing += [path.name for path in store.segments_path.glob("*.replaced-by.*")]
    copy = copy_of(store, listing, tmp_path / "copy")
    age(copy)
    compact(copy, keep_seconds=KEEP)
    assert live(copy) == before
    age(store)
    compact(store, keep_seconds=KEEP)
    assert names(store) == {"new"}
    assert live(store) == after


def test_a_merged_segment_that_is_replaced_itself_goes_after_its_sources(store: FeatureStore) -> None:
    compact(store, keep_seconds=KEEP)
    for number in range(4, 8):
        publish(store, f"s{number}", [record(f"p/{number}", number + 1)])
    compact(store, keep_seconds=KEEP)
    before = live(store)
    assert len(store.catalog.segments()) == 1
    assert len(names(store)) == 10
    age(store)
    compact(store, keep_seconds=KEEP)
    assert len(names(store)) == 1
    assert live(store) == before


def test_copying_while_segments_come_and_are_merged_loses_nothing(store: FeatureStore, tmp_path: Path) -> None:
    stop = threading.Event()

    def change() -> None:
        other, number = make_store(store.path.parents[1], cache="another-host"), 10
        while not stop.is_set():
            publish(other, f"s{number:04}", [record(f"p/{number}", number), record("p/again", number)])
            number += 1
            if number % 4 == 0:
                compact(other, keep_seconds=KEEP)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for number in range(6):
            before = live(store)
            target = tmp_path / f"copy-{number}"
            shutil.copytree(store.path, target / "stores" / store.path.name, ignore=shutil.ignore_patterns(".*.tmp"))
            copy = FeatureStore(target / "stores" / store.path.name, store.spec, target / "cache")
            assert live(copy).keys() >= before.keys()
            assert all(found == [] for _, found in copy.verify())
            assert copy.damaged == {}
    finally:
        stop.set()
        thread.join()
    assert segment_file(store, "s0").exists()
