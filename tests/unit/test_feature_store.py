from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import h5py
import numpy as np
import pytest

from common.errors import FingerprintMismatch, ModelNotReady, StoreError, UnknownImage, UnsupportedFormatVersion
from common.models import publish_model
from common.settings import Settings
from common.store import FeatureStore, compact, open_store
from tests.unit.helpers import (
    OTHER_SPEC,
    SPEC,
    feature_of,
    live,
    make_store,
    publish,
    python_json,
    record,
    segment_file,
    thumbnail_of,
)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


# --- the store's folder ------------------------------------------------------------------------------------------


def test_an_empty_store_is_empty(store: FeatureStore) -> None:
    assert not store.refresh()
    assert len(store) == 0
    assert live(store) == {}
    assert list(store.verify()) == []
    with pytest.raises(UnknownImage, match="No image abc"):
        store.entry("abc")


def test_the_manifest_says_which_model_the_store_is_for(store: FeatureStore, tmp_path: Path) -> None:
    manifest = json.loads((store.path / "store.json").read_bytes())
    assert manifest["format"] == "imagesearch-store"
    assert manifest["format_version"] == 1
    assert manifest["model"]["dimension"] == SPEC.dimension
    make_store(tmp_path)  # opened again


def test_two_models_have_two_stores(tmp_path: Path) -> None:
    one, other = make_store(tmp_path), make_store(tmp_path, OTHER_SPEC)
    publish(one, "s", ["p/a"])
    assert live(one) == {"p/a": 1}
    assert live(other) == {}


def test_a_store_of_another_model_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(FingerprintMismatch, match=OTHER_SPEC.fingerprint) as caught:
        FeatureStore(store.path, OTHER_SPEC, tmp_path / "cache")
    assert (caught.value.expected, caught.value.actual) == (SPEC.fingerprint, OTHER_SPEC.fingerprint)


def test_a_store_of_a_newer_format_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    path = store.path / "store.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(UnsupportedFormatVersion):
        make_store(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {}}'])
def test_a_manifest_that_cannot_be_read_is_named(store: FeatureStore, tmp_path: Path, text: str) -> None:
    (store.path / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store\.json cannot be read"):
        make_store(tmp_path)


def test_the_store_is_found_by_what_the_settings_resolved_to(settings: Settings) -> None:
    with pytest.raises(ModelNotReady):
        open_store(settings)
    publish_model(settings, SPEC)
    assert open_store(settings).path == open_store(settings, SPEC).path == SPEC.store_path(settings.data_dir)


def test_paths_of_any_language_work(tmp_path: Path) -> None:
    store = make_store(tmp_path / "данные 日本 ü")
    row = record("фото/Ünïcode 日本.jpg")
    publish(store, "s", [row])
    assert live(store) == {"фото/Ünïcode 日本.jpg": 1}
    (entry,) = store.catalog.below("фото")
    assert np.array_equal(store.feature(entry), feature_of(row).astype(np.float16))
    assert store.thumbnail(entry) == thumbnail_of(row)


# --- keeping up --------------------------------------------------------------------------------------------------


def test_segments_of_another_writer_are_taken_in(store: FeatureStore, tmp_path: Path) -> None:
    writer = make_store(tmp_path, cache="another-host")
    publish(writer, "s1", ["p/a"])
    assert store.refresh()
    assert len(store) == 1
    generation = store.catalog.generation
    assert not store.refresh()
    assert store.catalog.generation == generation
    publish(writer, "s2", ["p/b"])
    assert store.refresh()
    assert store.catalog.generation > generation


def test_two_segments_within_one_tick_of_the_clock_are_both_taken_in(store: FeatureStore) -> None:
    publish(store, "s1", ["p/a"])
    tick = store.segments_path.stat().st_mtime_ns
    os.utime(store.segments_path, ns=(tick, tick))
    assert live(store) == {"p/a": 1}
    publish(store, "s2", ["p/b"])
    os.utime(store.segments_path, ns=(tick, tick))  # as if it were the same tick
    assert live(store) == {"p/a": 1, "p/b": 1}


def test_a_listing_older_than_the_catalog_takes_nothing_out_of_it(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, "s1", ["p/a"])
    store.refresh()
    quick = make_store(tmp_path)  # another process of this host: the same catalog
    publish(store, "s2", ["p/b"])
    writing = store.catalog.writing

    def wait_for_a_quicker_one() -> AbstractContextManager[sqlite3.Connection]:
        monkeypatch.undo()
        publish(quick, "s3", ["p/c"])
        quick.refresh()
        return writing()

    monkeypatch.setattr(store.catalog, "writing", wait_for_a_quicker_one)
    store.refresh()
    assert {entry.path for entry in quick.catalog.below(None)} == {"p/a", "p/b", "p/c"}


def test_threads_that_refresh_at_once_lose_nothing(store: FeatureStore, tmp_path: Path) -> None:
    stop = threading.Event()
    errors: list[Exception] = []
    counts: list[list[int]] = [[], [], []]

    def follow(seen: list[int]) -> None:
        try:
            while not stop.is_set():
                store.refresh()
                seen.append(len(list(store.catalog.below(None))))
        except Exception as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=follow, args=(seen,)) for seen in counts]
    for thread in threads:
        thread.start()
    for number in range(40):
        publish(store, f"s{number:03}", [f"p/{number}.jpg"])
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(seen == sorted(seen) for seen in counts), "an image vanished for a while"
    assert len(live(store)) == 40
    assert live(store) == live(make_store(tmp_path, cache="fresh"))


FOLLOWER = """
import json, sys
from pathlib import Path
from tests.unit.helpers import live, make_store, publish

store = make_store(Path(sys.argv[1]))
for number in range(25):
    publish(store, f"{sys.argv[2]}-{number:03}", [f"p/{sys.argv[2]}/{number}.jpg", f"p/both/{number}.jpg"])
    store.refresh()
print(json.dumps(live(store)))
"""


def test_processes_that_publish_and_refresh_at_once_end_the_same(store: FeatureStore, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: python_json(FOLLOWER, tmp_path, name), ["one", "two"]))
    assert len(live(store)) == 75
    assert live(store) == live(make_store(tmp_path, cache="fresh"))


# --- damage ------------------------------------------------------------------------------------------------------


def ruin_header(path: Path) -> None:
    path.write_bytes(b"rotten" * 100)


def cut_off(path: Path) -> None:
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)


def lose_a_column(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["path"]


def swap_model(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["fingerprint"] = OTHER_SPEC.fingerprint


@pytest.mark.parametrize("ruin", [ruin_header, cut_off, lose_a_column, swap_model])
@pytest.mark.parametrize("taken_in", [True, False], ids=["known before", "never known"])
def test_a_damaged_segment_is_named_and_the_rest_works(
    store: FeatureStore, ruin: object, taken_in: bool, tmp_path: Path
) -> None:
    assert callable(ruin)
    for name in ("s1", "s2", "s3"):
        publish(store, name, [f"p/{name}.jpg"])
    if taken_in:
        store.refresh()
    ruin(segment_file(store, "s2"))
    assert live(store) == {"p/s1.jpg": 1, "p/s3.jpg": 1}
    assert list(store.damaged) == ["s2"]
    assert [row.name for row in store.catalog.segments()] == ["s1", "s3"]
    problems = dict(store.verify())
    assert [bool(problems[name]) for name in ("s1", "s2", "s3")] == [False, True, False]
    publish(store, "s4", ["p/s4.jpg"])
    assert len(live(store)) == 3
    assert compact(store).merged == 3
    assert len(live(make_store(tmp_path, cache="fresh"))) == 3


def test_a_damaged_segment_that_was_restored_is_taken_in(store: FeatureStore, tmp_path: Path) -> None:
    publish(store, "s1", ["p/a.jpg"])
    path = segment_file(store, "s1")
    shutil.copy2(path, tmp_path / "backup")
    cut_off(path)
    assert live(store) == {}
    shutil.copy2(tmp_path / "backup", path)
    publish(store, "s2", ["p/b.jpg"])
    assert live(store) == {"p/a.jpg": 1, "p/b.jpg": 1}
    assert store.damaged == {}


def test_a_segment_moved_away_and_back_is_read_again(store: FeatureStore, tmp_path: Path) -> None:
    publish(store, "s1", [record("p/a.jpg", 1)])
    publish(store, "s2", [record("p/a.jpg", 2)])
    assert live(store) == {"p/a.jpg": 2}
    segment_file(store, "s2").rename(tmp_path / "away.h5")
    assert live(store) == {"p/a.jpg": 1}
    (tmp_path / "away.h5").rename(segment_file(store, "s2"))
    assert live(store) == {"p/a.jpg": 2}


def test_temporary_and_foreign_files_are_not_segments(store: FeatureStore) -> None:
    for name in (".s.h5.abc.tmp", ".hidden.h5", "notes.txt", "s.h5.bak"):
        (store.segments_path / name).write_bytes(b"half")
    publish(store, "s1", ["p/a"])
    assert live(store) == {"p/a": 1}
    assert store.damaged == {}


# --- reading while files go --------------------------------------------------------------------------------------


def test_an_entry_from_before_a_compaction_still_gives_its_feature(store: FeatureStore, tmp_path: Path) -> None:
    rows = [record(f"p/{number}.jpg") for number in range(6)]
    for number, row in enumerate(rows):
        publish(store, f"s{number}", [row])
    store.refresh()
    entries = list(store.catalog.below(None))
    compact(make_store(tmp_path, cache="another-host"))
    for row, entry in zip(rows, entries, strict=True):
        assert np.array_equal(store.feature(entry), feature_of(row).astype(np.float16))
        assert store.thumbnail(entry) == thumbnail_of(row)
        content = store.content(row.content_hash)
        assert content is not None
        assert content.thumbnail == thumbnail_of(row)


def test_what_another_process_has_found_gone_is_let_go(store: FeatureStore, tmp_path: Path) -> None:
    for number in range(3):
        publish(store, f"s{number}", [f"p/{number}.jpg"])
    store.refresh()
    for entry in store.catalog.below(None):
        store.feature(entry)
    assert store._open.keys() == {"s0", "s1", "s2"}
    other = make_store(tmp_path)  # shares the catalog
    compact(other)
    other.refresh()
    store.refresh()
    assert store._open.keys() <= {row.name for row in store.catalog.segments()}
    for entry in store.catalog.below(None):
        store.feature(entry)
    assert len(store._open) == 1


def test_a_file_that_another_process_has_found_replaced_is_opened_anew(store: FeatureStore, tmp_path: Path) -> None:
    first, second = record("p/a.jpg", 1, "first"), record("p/a.jpg", 2, "second")
    publish(store, "s", [first])
    store.refresh()
    (entry,) = store.catalog.below(None)
    assert np.array_equal(store.feature(entry), feature_of(first).astype(np.float16))
    segment_file(store, "s").unlink()
    publish(store, "s", [second])
    other = make_store(tmp_path)
    other.refresh()
    store.refresh()
    (entry,) = store.catalog.below(None)
    assert np.array_equal(store.feature(entry), feature_of(second).astype(np.float16))


def test_an_entry_never_gives_the_feature_of_another_segment(store: FeatureStore) -> None:
    older = record("p/b.jpg", 3)
    publish(store, "a", ["p/a.jpg"])
    publish(store, "z", [record("p/b.jpg", 9)])
    store.refresh()
    entry = store.catalog.by_path("p/b.jpg")
    assert entry is not None
    # The segment goes, an older record counts again, and a third segment could get its number in the catalog.
    segment_file(store, "z").unlink()
    publish(store, "m", ["p/c.jpg"])
    publish(store, "y", [older])
    store.refresh()
    assert np.array_equal(store.feature(entry), feature_of(older).astype(np.float16))


def test_an_image_removed_meanwhile_is_unknown(store: FeatureStore) -> None:
    publish(store, "s1", ["p/a.jpg"])
    store.refresh()
    (entry,) = store.catalog.below(None)
    segment_file(store, "s1").unlink()
    fresh = make_store(store.path.parents[1])  # it shares the catalog, and has not looked at the folder yet
    with pytest.raises(UnknownImage):
        fresh.feature(entry)
