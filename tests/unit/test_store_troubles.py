"""What readers of a store do while something of it cannot be read, or the catalog cannot be written."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.errors import StoreUnreadable
from common.ranking import ExactRanker
from common.store import FeatureStore
from tests.unit.helpers import make_store, publish, record, segment_file, vector_of


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


def rot(path: Path) -> None:
    """Damages a file so that its size and its time stay."""
    status = path.stat()
    with path.open("rb+") as file:
        file.write(b"rotten" * 20)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def full_disk(store: FeatureStore) -> Iterator[None]:
    """The catalog's file cannot grow, as on a full disk; SQLite says so with the same words."""
    connection = store.catalog._db
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        connection.execute("PRAGMA max_page_count = 1073741823")


def paths(ranker: ExactRanker) -> set[str]:
    return {match.entry.path for match in ranker.search(vector_of("query"), 10)}


def test_searches_go_on_without_a_segment_that_rots(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("s1", "s2", "s3"):
        publish(store, name, [f"p/{name}.jpg"])
    ranker = ExactRanker(store)
    store.refresh()
    rot(segment_file(store, "s2"))
    with caplog.at_level(logging.ERROR):
        assert paths(ranker) == {"p/s1.jpg", "p/s3.jpg"}
        assert paths(ranker) == {"p/s1.jpg", "p/s3.jpg"}
    assert list(store.damaged) == ["s2"]
    assert caplog.text.count("Segment s2.h5 is damaged") == 1


def test_processes_of_a_host_agree_on_what_is_damaged(store: FeatureStore, tmp_path: Path) -> None:
    publish(store, "s1", ["p/s1.jpg"])
    publish(store, "s2", ["p/s2.jpg"])
    store.refresh()
    other = make_store(tmp_path)
    rot(segment_file(store, "s2"))
    assert paths(ExactRanker(store)) == {"p/s1.jpg"}
    generation = store.catalog.generation
    for reader in (other, store, other):
        assert paths(ExactRanker(reader)) == {"p/s1.jpg"}
    assert other.damaged.keys() == store.damaged.keys() == {"s2"}
    assert store.catalog.generation == generation, "they take turns in taking it in and out"


def test_an_older_record_counts_again_when_the_newer_one_is_damaged(store: FeatureStore) -> None:
    publish(store, "s1", [record("p/a.jpg", 1)])
    publish(store, "s2", [record("p/a.jpg", 2)])
    store.refresh()
    rot(segment_file(store, "s2"))
    (match,) = ExactRanker(store).search(vector_of("query"), 10)
    assert match.entry.record.sequence == 1


def test_what_the_system_does_not_let_us_read_is_no_damage(
    store: FeatureStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, "s1", ["p/s1.jpg"])
    publish(store, "s2", ["p/s2.jpg"])
    path = segment_file(store, "s2")
    aside = path.with_suffix(".aside")
    path.rename(aside)
    path.mkdir()  # opening it gives an error of the system, as too many open files would
    with caplog.at_level(logging.WARNING):
        assert paths(ExactRanker(store)) == {"p/s1.jpg"}
        store.refresh()
    assert (list(store.damaged), list(store.unreadable)) == ([], ["s2"])
    assert caplog.text.count("left out for now") == 1
    path.rmdir()
    aside.rename(path)
    assert paths(ExactRanker(store)) == {"p/s1.jpg", "p/s2.jpg"}
    assert store.unreadable == {}


def test_readers_go_on_while_the_catalog_cannot_be_written(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("common.store.feature_store._REST_SECONDS", 0.0)
    publish(store, "s1", ["p/s1.jpg"])
    ranker = ExactRanker(store)
    store.keep_up()
    with caplog.at_level(logging.INFO), full_disk(store):
        publish(store, "s2", [f"p/{number}.jpg" for number in range(500)])
        for _ in range(3):
            assert paths(ranker) == {"p/s1.jpg"}
        assert "make room" in (store.behind or "")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.refresh()  # for whoever writes it is an error
    assert caplog.text.count("make room") == 1
    with caplog.at_level(logging.INFO):
        store.keep_up()
    assert store.behind is None
    assert "well again" in caplog.text
    assert len(store) == 501


def test_a_damaged_catalog_is_made_anew(store: FeatureStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish(store, "s1", [f"p/{number}.jpg" for number in range(200)])
    store.keep_up()
    store.catalog._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.catalog._db.close()
    with next(store.cache_path.glob("catalog-*.sqlite")).open("rb+") as file:
        file.write(b"rotten" * 700)
    with caplog.at_level(logging.WARNING):
        again = make_store(tmp_path)
    again.keep_up()
    assert len(again) == 200
    assert "made anew" in caplog.text


def test_a_store_whose_folder_has_gone_is_unreadable(store: FeatureStore, tmp_path: Path) -> None:
    publish(store, "s1", ["p/s1.jpg"])
    store.refresh()
    store.segments_path.rename(tmp_path / "unmounted")
    with pytest.raises(StoreUnreadable, match="mounted"):
        ExactRanker(store).search(vector_of("query"), 10)
    (tmp_path / "unmounted").rename(store.segments_path)
    assert paths(ExactRanker(store)) == {"p/s1.jpg"}
