from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from common.store import FeatureStore, ImageRecord, Tombstone, compact, compaction
from common.store.compaction import KEEP_TOMBSTONES_SECONDS, STALE_TEMPORARY_SECONDS
from tests.unit.helpers import feature_of, live, make_store, publish, record, segment_file, thumbnail_of

NOW = time.time_ns()
LONG_AGO = NOW - 2 * KEEP_TOMBSTONES_SECONDS * 10**9


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


def names(store: FeatureStore) -> list[str]:
    return sorted(path.stem for path in store.segments_path.glob("*.h5"))


def rows_of(store: FeatureStore) -> dict[str, ImageRecord]:
    """The live records; checks that each has its own feature and thumbnail."""
    store.refresh()
    entries = list(store.catalog.below(None))
    for entry in entries:
        assert np.array_equal(store.feature(entry), feature_of(entry.record).astype(np.float16)), entry.path
        assert store.thumbnail(entry) == thumbnail_of(entry.record), entry.path
    return {entry.path: entry.record for entry in entries}


def tombstones_of(store: FeatureStore) -> list[Tombstone]:
    return sorted((t for name in names(store) for t in store.segment(name).tombstones()), key=lambda t: t.public_path)


def test_merging_keeps_rows_thumbnails_and_sequences(store: FeatureStore, tmp_path: Path) -> None:
    for number in range(5):
        publish(store, f"s{number}", [record(f"p/{number}/{row}.jpg", 10 * number + row) for row in range(6)])
    before = rows_of(store)
    report = compact(store)
    assert (report.merged, report.written, report.removed_temporaries) == (5, 1, 0)
    assert len(names(store)) == 1
    assert rows_of(store) == before
    assert rows_of(make_store(tmp_path, cache="fresh")) == before
    assert all(problems == [] for _, problems in store.verify())


def test_a_second_compaction_finds_nothing_to_do(store: FeatureStore) -> None:
    for number in range(3):
        publish(store, f"s{number}", [f"p/{number}"])
    compact(store)
    before = names(store)
    assert compact(store).merged == 0
    assert names(store) == before


def test_lazily_a_large_segment_is_not_rewritten_for_a_few_new_rows(store: FeatureStore) -> None:
    publish(store, "large", [record(f"p/{number}", 1) for number in range(40)])
    for number in range(6):
        publish(store, f"new{number}", [f"q/{number}"])
    before = rows_of(store)
    assert compact(store, lazily=True).merged == 6
    assert "large" in names(store)
    assert len(names(store)) == 2
    assert rows_of(store) == before
    assert compact(store, lazily=True).merged == 0
    assert compact(store).merged == 2


def test_lazily_each_row_is_rewritten_a_few_times_only(store: FeatureStore) -> None:
    written = 0
    for number in range(128):
        publish(store, f"s{number:03}", [f"p/{number:03}"])
        before = {*names(store)}
        compact(store, lazily=True)
        written += sum(store.segment(name).count for name in {*names(store)} - before)
    assert written <= 128 * 8
    assert len(names(store)) <= 8
    assert len(rows_of(store)) == 128


def test_a_merged_segment_stays_within_what_memory_holds(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        publish(store, f"s{number:02}", [f"p/{number:02}"])
    before = rows_of(store)
    size = segment_file(store, "s00").stat().st_size
    monkeypatch.setattr(compaction, "TARGET_BYTES", 4 * size)
    assert compact(store).written == 3
    assert rows_of(store) == before


def test_an_empty_store_and_a_single_segment_are_left_alone(store: FeatureStore) -> None:
    assert compact(store).merged == 0
    publish(store, "s", ["p/a"])
    assert compact(store).merged == 0
    assert names(store) == ["s"]


def test_dead_rows_are_reclaimed(store: FeatureStore) -> None:
    publish(store, "s1", [record(f"p/{number}", 1) for number in range(10)])
    publish(store, "s2", [record(f"p/{number}", 2) for number in range(6)])
    publish(store, "s3", [], {"p/9": NOW})
    before = rows_of(store)
    compact(store)
    assert rows_of(store) == before
    assert sum(row.count for row in store.catalog.segments()) == 9


def test_a_large_segment_that_is_mostly_dead_is_rewritten_alone(store: FeatureStore) -> None:
    publish(store, "large", [record(f"p/{number}", 1) for number in range(10)])
    publish(store, "newer", [record(f"p/{number}", 2) for number in range(8)], precision="bfloat16")
    before = rows_of(store)
    assert compact(store, target_rows=12).merged == 1
    assert "large" not in names(store)
    assert rows_of(store) == before


def test_large_segments_are_left_alone(store: FeatureStore) -> None:
    publish(store, "large", [f"l/{number}" for number in range(10)])
    for number in range(3):
        publish(store, f"small{number}", [f"s/{number}"])
    assert compact(store, target_rows=12).merged == 3
    assert "large" in names(store)


def test_a_merged_segment_has_at_most_the_target_rows(store: FeatureStore) -> None:
    for number in range(10):
        publish(store, f"s{number}", [f"p/{number}/{row}" for row in range(4)])
    before = rows_of(store)
    compact(store, target_rows=12)
    assert rows_of(store) == before
    assert {row.count for row in store.catalog.segments()} == {12, 4}


def test_precisions_are_kept_apart(store: FeatureStore) -> None:
    for number in range(4):
        publish(store, f"s{number}", [f"p/{number}"], precision="bfloat16" if number % 2 else "float32")
    before = rows_of(store)
    report = compact(store)
    assert (report.merged, report.written) == (4, 2)
    assert rows_of(store) == before
    precisions = {row.id: row.precision for row in store.catalog.segments()}
    for path in before:
        entry = store.catalog.by_path(path)
        assert entry is not None
        assert precisions[entry.segment_id] == ("bfloat16" if int(path[2:]) % 2 else "float32")


# --- tombstones --------------------------------------------------------------------------------------------------


def test_recent_tombstones_are_kept(store: FeatureStore, tmp_path: Path) -> None:
    publish(store, "s1", [record("p/a", NOW - 10), record("p/b", NOW - 10)])
    publish(store, "s2", [record("p/c", NOW - 10)], {"p/a": NOW - 5, "p/never": NOW - 4})
    compact(store)
    assert tombstones_of(store) == [Tombstone("p/a", NOW - 5), Tombstone("p/never", NOW - 4)]
    # A batch of an old job that comes late does not bring the image back.
    publish(store, "late", [record("p/a", NOW - 8)])
    assert set(live(store)) == set(live(make_store(tmp_path, cache="fresh"))) == {"p/b", "p/c"}


def test_old_tombstones_that_nothing_needs_are_dropped(store: FeatureStore) -> None:
    publish(store, "s1", ["p/a"])
    publish(store, "s2", ["p/b"], {"p/gone": LONG_AGO})
    publish(store, "r1", [], {"p/gone-too": LONG_AGO}, precision="none")
    publish(store, "r2", [], {"p/gone-three": LONG_AGO}, precision="none")
    before = rows_of(store)
    compact(store)
    assert tombstones_of(store) == []
    assert rows_of(store) == before
    assert len(names(store)) == 1


def test_a_dropped_tombstone_never_brings_an_image_back(store: FeatureStore, tmp_path: Path) -> None:
    publish(store, "large", [record(f"p/{number}", LONG_AGO - 5) for number in range(10)])
    for number in range(3):
        publish(store, f"r{number}", [], {f"p/{number}": LONG_AGO}, precision="none")
    expected = {f"p/{number}" for number in range(3, 10)}
    for _ in range(3):
        compact(store, target_rows=12)
        assert set(live(store)) == expected
        assert set(live(make_store(tmp_path, cache=f"fresh-{time.time_ns()}"))) == expected


@pytest.mark.parametrize("kept", [0, 1])
def test_a_kill_while_the_sources_of_a_dropped_tombstone_go_is_harmless(
    store: FeatureStore, tmp_path: Path, kept: int
) -> None:
    publish(store, "s0", [record("p/a", LONG_AGO - 5), record("p/b", LONG_AGO - 5)], {"p/c": LONG_AGO})
    publish(store, "s1", [record("p/c", LONG_AGO - 5), record("p/d", LONG_AGO - 5)], {"p/a": LONG_AGO})
    shutil.copytree(store.segments_path, tmp_path / "copy")
    compact(store)
    shutil.copy2(tmp_path / "copy" / f"s{kept}.h5", store.segments_path)
    assert set(live(make_store(tmp_path, cache="fresh"))) == {"p/b", "p/d"}
    for _ in range(3):
        compact(store)
    assert set(live(make_store(tmp_path, cache="fresh-2"))) == {"p/b", "p/d"}


# --- interruptions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [["s0"], ["s2"], ["s0", "s1"], ["s0", "s1", "s2", "s3"]])
def test_sources_that_a_killed_compaction_left_change_nothing(
    store: FeatureStore, tmp_path: Path, left: list[str]
) -> None:
    publish(store, "s0", [record("p/a", NOW - 9), record("p/b", NOW - 9), record("p/e", NOW - 9)])
    publish(store, "s1", [record("p/b", NOW - 8), record("p/c", NOW - 8)])
    publish(store, "s2", [record("p/d", NOW - 7)], {"p/a": NOW - 7})
    publish(store, "s3", [record("p/c", NOW - 6)])
    before = rows_of(store)
    shutil.copytree(store.segments_path, tmp_path / "copy")
    compact(store)
    for name in left:
        shutil.copy2(tmp_path / "copy" / f"{name}.h5", store.segments_path)
    assert rows_of(store) == before
    assert rows_of(make_store(tmp_path, cache="fresh")) == before
    compact(store)
    assert rows_of(store) == before
    assert rows_of(make_store(tmp_path, cache="fresh-2")) == before


def test_two_hosts_that_compact_at_once_publish_one_segment(store: FeatureStore, tmp_path: Path) -> None:
    other = make_store(tmp_path, cache="another-host")
    for number in range(4):
        publish(store, f"s{number}", [f"p/{number}"])
    before = rows_of(store)
    other.refresh()
    shutil.copytree(store.segments_path, tmp_path / "copy")
    compact(store)
    merged = names(store)
    for path in (tmp_path / "copy").iterdir():  # the other one has not seen the first yet
        shutil.copy2(path, store.segments_path)
    for name in merged:
        segment_file(store, name).unlink()
    compact(other)
    assert names(store) == merged
    assert rows_of(store) == rows_of(other) == before


def test_a_catalog_made_anew_meanwhile_costs_no_image(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        publish(store, f"s{number}", [f"p/{number}"])
    before = rows_of(store)
    process = make_store(tmp_path)  # of this host: the same catalog
    rows = store.catalog.rows

    def rows_of_a_new_catalog(segment_id: int) -> list[int]:
        monkeypatch.undo()
        with process.catalog.writing() as db:
            process.catalog.clear(db)
        return rows(segment_id)

    monkeypatch.setattr(store.catalog, "rows", rows_of_a_new_catalog)
    compact(store)
    process.refresh()
    assert rows_of(make_store(tmp_path, cache="fresh")) == before


def test_a_segment_published_meanwhile_stays(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        publish(store, f"s{number}", [record(f"p/{number}", NOW - 9)])
    original = store.publish

    def publish_after_another(name: str, **content: object) -> None:
        monkeypatch.undo()
        publish(store, "job", [record("p/0", NOW), record("p/new", NOW)], {"p/1": NOW})
        original(name, **content)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "publish", publish_after_another)
    compact(store)
    assert live(store) == {"p/0": NOW, "p/2": NOW - 9, "p/new": NOW}


def test_only_stale_temporary_files_are_removed(store: FeatureStore) -> None:
    fresh, stale = (store.segments_path / f".{name}.h5.0123.tmp" for name in ("fresh", "stale"))
    for path in (fresh, stale):
        path.write_bytes(b"half")
    old = time.time() - STALE_TEMPORARY_SECONDS - 10
    os.utime(stale, (old, old))
    assert compact(store).removed_temporaries == 1
    assert fresh.exists()
    assert not stale.exists()
