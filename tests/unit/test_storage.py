"""Whether something can be written to the data folder: real folders that cannot be written to, and one that can."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import storage
from common.storage import StorageFull, StorageWatch, storage_problem


def test_a_folder_with_room_has_no_problem(tmp_path: Path) -> None:
    assert storage_problem(tmp_path, writes=True) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_looking_does_not_change_the_folder_that_is_copied_for_a_backup(tmp_path: Path) -> None:
    storage_problem(tmp_path, writes=True)
    changed_at = tmp_path.stat().st_mtime_ns
    storage_problem(tmp_path, writes=True)
    assert tmp_path.stat().st_mtime_ns == changed_at


def test_a_disk_with_too_little_room_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MIN_FREE_BYTES", 1 << 60)
    problem = storage_problem(tmp_path, writes=False)
    assert problem is not None
    assert problem.kind == "disk-full"
    assert str(tmp_path) in problem.detail


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_is_not_there_cannot_be_written_to(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    problem = storage_problem(tmp_path / folder / "data", writes=True)
    assert problem is not None
    assert problem.kind == "folder-not-writable"
    assert "cannot be written to" in problem.detail


def test_work_waits_until_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = StorageWatch(tmp_path)
    watch.require()
    monkeypatch.setattr(storage, "MIN_FREE_BYTES", 1 << 60)
    assert watch.problem() is None  # as it was a moment ago
    assert watch.problem(at_once=True) is not None
    with pytest.raises(StorageFull, match="is full"):
        watch.require()
    monkeypatch.undo()
    watch.require()
    assert watch.problem() is None
