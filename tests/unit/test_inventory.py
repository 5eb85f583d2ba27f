"""When the folder of segments is listed, and when what was listed before will do."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from benchmarks.system import wait_until
from common.store import FeatureStore, inventory
from tests.unit.helpers import make_store, publish


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


def set_back(store: FeatureStore, seconds: float) -> None:
    """Makes the last change of the folder so old."""
    before = time.time_ns() - int(seconds * 1e9)
    os.utime(store.segments_path, ns=(before, before))


def count_looks(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Gets an item each time that the folder is listed to find out what is new."""
    looks: list[None] = []
    look = store._inventory._catch_up

    def counting() -> bool:
        looks.append(None)
        return look()

    monkeypatch.setattr(store._inventory, "_catch_up", counting)
    return looks


def test_readers_do_not_list_the_folder_for_each_search_while_it_changes(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_LOOK_SECONDS", 600.0)
    writer = make_store(tmp_path, cache="another-host")
    looks = count_looks(store, monkeypatch)
    for number in range(3):
        publish(writer, f"s{number}", [f"p/{number}"])
        set_back(store, 1 - number / 10)  # no more than a second ago: another change may have this time, too
        for _ in range(100):
            store.keep_up()
        assert len(store) == number + 1
        assert len(looks) == number + 1
    store.refresh()
    store.refresh()
    assert len(looks) == 5
    set_back(store, 3)
    store.refresh()
    store.refresh()
    assert len(looks) == 6


def test_readers_see_also_what_a_coarse_clock_hides_before_long(
    store: FeatureStore,
) -> None:
    publish(store, "s1", ["p/a"])
    tick = time.time_ns() - 10**9
    os.utime(store.segments_path, ns=(tick, tick))
    store.keep_up()
    publish(store, "s2", ["p/b"])
    os.utime(store.segments_path, ns=(tick, tick))
    wait_until(lambda: bool(store.keep_up() or len(store) == 2), "the second one is there", 20)


def test_what_has_changed_just_now_is_looked_at_again(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_LOOK_SECONDS", 600.0)
    monkeypatch.setattr(inventory, "_FINE_RACY_SECONDS", 60.0)
    publish(store, "s1", ["p/a"])
    tick = store.segments_path.stat().st_mtime_ns
    store.keep_up()
    publish(store, "s2", ["p/b"])
    os.utime(store.segments_path, ns=(tick, tick))
    store.keep_up()
    assert len(store) == 2


def test_a_reader_does_not_wait_for_another_thread_for_ever(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, "s1", ["p/a"])
    store.keep_up()
    publish(store, "s2", ["p/b"])
    monkeypatch.setattr(inventory, "_PATIENCE_SECONDS", 0.05)
    looks, go_on = threading.Event(), threading.Event()
    look = store._inventory._catch_up

    def slow() -> bool:
        looks.set()
        assert go_on.wait(60)
        return look()

    monkeypatch.setattr(store._inventory, "_catch_up", slow)
    thread = threading.Thread(target=store.keep_up)
    thread.start()
    assert looks.wait(60)
    store.keep_up()
    assert len(store) == 1
    go_on.set()
    thread.join()
    assert len(store) == 2


def test_a_look_that_failed_is_repeated(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "s1", ["p/a"])
    set_back(store, 10)
    looks = count_looks(store, monkeypatch)
    store.refresh()
    store.refresh()
    assert len(looks) == 1
    store._inventory.look_again()
    with monkeypatch.context() as patch:
        patch.setattr(store._inventory, "_list", failing)
        for _ in range(2):
            with pytest.raises(OSError, match="no disk"):
                store.refresh()
    store.refresh()
    store.refresh()
    assert len(looks) == 4


def failing() -> None:
    raise OSError("no disk")
