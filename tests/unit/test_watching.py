"""The watcher of a folder, with a clock that the test turns."""

from __future__ import annotations

import os
import shutil
from datetime import datetime, timezone
from pathlib import Path

import pytest
from watchfiles import Change

from common import watching
from common.errors import FolderNotFound, RedisUnavailable
from common.messages import IndexJob
from common.watching import FolderGone, FolderWatcher, Request


class Bench:
    """A watcher on a folder, what it submitted, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 100.0
        self.requests: list[Request] = []
        self.lines: list[str] = []
        self.failure: Exception | None = None
        self.watcher = FolderWatcher(
            folder, "photos", submit=self._submit, say=self.lines.append, clock=lambda: self.now
        )

    def _submit(self, request: Request) -> IndexJob:
        if self.failure is not None:
            raise self.failure
        self.requests.append(request)
        number = str(len(self.requests))
        return IndexJob(id=number, folder=request.folder, state="scanning", started_at=datetime.now(timezone.utc))

    def write(self, name: str, content: str = "x") -> None:
        """Writes a file and reports it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        self.report(Change.added, name)

    def report(self, change: Change, *names: str) -> None:
        """Reports changes as the system would."""
        self.watcher.take({(change, str(self.folder / name)) for name in names})

    def after(self, seconds: float) -> list[Request]:
        """What is submitted in the next seconds, with a turn every quarter."""
        known = len(self.requests)
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            self.watcher.tick()
        return self.requests[known:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path.resolve()


@pytest.fixture
def bench(folder: Path) -> Bench:
    """A watcher whose first job is behind it."""
    bench = Bench(folder)
    bench.watcher.tick()
    assert bench.requests.pop() == Request("photos")
    bench.lines.clear()
    return bench


def test_it_begins_with_the_whole_folder(folder: Path) -> None:
    bench = Bench(folder)
    bench.watcher.tick()
    assert bench.requests == [Request("photos")]
    assert bench.lines == ["Job 1: looking through photos"]
    assert bench.after(20) == []


def test_a_file_is_submitted_when_it_was_quiet_for_a_second(bench: Bench) -> None:
    bench.now += 10
    bench.write("a.jpg")
    assert bench.after(0.75) == []
    assert bench.after(0.5) == [Request("photos", ("photos/a.jpg",))]
    assert bench.lines == ["Job 1: photos/a.jpg"]
    assert bench.after(20) == []


def test_a_file_that_grows_waits_until_it_is_whole(bench: Bench) -> None:
    bench.now += 10
    for length in range(1, 9):
        bench.write("a.jpg", "x" * length)
        assert bench.after(0.75) == []
    assert bench.after(0.5) == [Request("photos", ("photos/a.jpg",))]


def test_a_file_that_grows_without_events_waits_too(bench: Bench) -> None:
    bench.now += 10
    bench.write("a.jpg")
    (bench.folder / "a.jpg").write_text("longer")
    assert bench.after(1.75) == []
    assert bench.after(0.5) == [Request("photos", ("photos/a.jpg",))]


def test_a_removed_file_and_a_moved_one_are_submitted(bench: Bench) -> None:
    bench.write("a/1.jpg")
    bench.write("b/2.jpg")
    bench.after(5)
    (bench.folder / "a" / "1.jpg").rename(bench.folder / "b" / "1.jpg")
    bench.report(Change.deleted, "a/1.jpg")
    bench.report(Change.added, "b/1.jpg")
    (bench.folder / "b" / "2.jpg").unlink()
    bench.report(Change.deleted, "b/2.jpg")
    assert bench.after(5) == [Request("photos", ("photos/a/1.jpg", "photos/b/1.jpg", "photos/b/2.jpg"))]


def test_files_of_one_folder_go_together_and_name_it(bench: Bench) -> None:
    bench.write("2024/may/1.jpg")
    bench.write("2024/may/2.jpg")
    assert bench.after(5) == [Request("photos/2024/may", ("photos/2024/may/1.jpg", "photos/2024/may/2.jpg"))]
    assert bench.lines == ["Job 1: 2 files in photos/2024/may"]


def test_a_long_copy_is_submitted_every_two_seconds(bench: Bench) -> None:
    bench.now += 10
    requests = []
    for number in range(80):
        bench.write(f"{number:03}.jpg")
        requests += bench.after(0.25)
    requests += bench.after(4)
    assert 9 <= len(requests) <= 12
    assert sorted(path for r in requests for path in r.paths or ()) == [f"photos/{n:03}.jpg" for n in range(80)]


@pytest.mark.parametrize(
    "name", ["notes.txt", ".a.jpg", ".cache/a.jpg", "@eaDir/a.jpg", "x/#recycle/b/a.jpg", "a.jpg.part"]
)
def test_what_a_scan_leaves_out_is_left_out(bench: Bench, name: str) -> None:
    bench.write(name)
    bench.report(Change.added, name.split("/")[0])
    assert bench.after(40) == []


def test_a_path_elsewhere_is_left_out(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "pictures-2").mkdir()
    bench.watcher.take({(Change.added, str(tmp_path / "pictures-2" / "a.jpg")), (Change.added, str(tmp_path))})
    bench.watcher.take({(Change.modified, str(bench.folder))})
    assert bench.after(5) == []


def test_a_folder_that_was_moved_in_brings_its_files(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "deep" / "1.jpg").touch()
    (tmp_path / "new" / "2.jpg").touch()
    (tmp_path / "new").rename(bench.folder / "new")
    bench.report(Change.added, "new")
    assert bench.after(5) == [Request("photos/new", ("photos/new/2.jpg", "photos/new/deep/1.jpg"))]


def test_a_folder_that_is_gone_has_the_nearest_one_looked_through(bench: Bench, tmp_path: Path) -> None:
    bench.write("a/b/c/1.jpg")
    bench.report(Change.added, "a", "a/b", "a/b/c")
    bench.after(5)
    (bench.folder / "a" / "b").rename(tmp_path / "away")
    bench.report(Change.deleted, "a/b")
    assert bench.after(5) == [Request("photos/a")]
    assert bench.after(40) == []


def test_a_folder_removed_with_its_files_is_one_job(bench: Bench) -> None:
    bench.write("a/b/1.jpg")
    bench.report(Change.added, "a", "a/b")
    bench.after(5)
    shutil.rmtree(bench.folder / "a")
    bench.report(Change.deleted, "a/b/1.jpg", "a/b", "a")
    assert bench.after(5) == [Request("photos")]
    assert bench.after(40) == []


def test_a_renamed_folder_is_looked_for_in_both_places(bench: Bench) -> None:
    bench.write("old/1.jpg")
    bench.report(Change.added, "old")
    bench.after(5)
    (bench.folder / "old").rename(bench.folder / "new")
    bench.report(Change.deleted, "old")
    bench.report(Change.added, "new")
    assert bench.after(5) == [Request("photos")]


def test_a_folder_that_was_replaced_is_looked_through(bench: Bench) -> None:
    bench.write("a/1.jpg")
    bench.report(Change.added, "a")
    bench.after(5)
    shutil.rmtree(bench.folder / "a")
    bench.write("a/2.jpg")
    bench.watcher.take({(Change.deleted, str(bench.folder / "a")), (Change.added, str(bench.folder / "a"))})
    assert bench.after(5) == [Request("photos/a")]


def test_a_folder_waits_for_files_that_are_being_written_but_not_for_ever(bench: Bench) -> None:
    bench.write("a/1.jpg")
    bench.write("b/0.jpg")
    bench.report(Change.added, "a", "b")
    bench.after(5)
    shutil.rmtree(bench.folder / "a")
    bench.report(Change.deleted, "a")
    waited = 0
    while not any(request.paths is None for request in bench.requests):
        bench.write("b/slow.jpg", "x" * waited)
        bench.after(0.5)
        waited += 1
    assert 29 <= waited / 2 <= 33
    assert bench.after(5) == [Request("photos/b", ("photos/b/slow.jpg",))]


def test_very_many_files_become_their_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_PATHS", 10)
    for number in range(11):
        bench.write(f"2024/{number % 3}/{number}.jpg")
    assert bench.after(5) == [Request("photos/2024")]
    assert bench.after(40) == []


def test_while_redis_is_away_everything_is_kept_and_said_once(bench: Bench) -> None:
    bench.failure = RedisUnavailable("redis://box", "refused")
    bench.write("1.jpg")
    bench.after(10)
    bench.write("2.jpg")
    assert bench.after(10) == []
    assert [line for line in bench.lines if "not reachable" in line] == bench.lines
    assert len(bench.lines) == 1
    bench.failure = None
    kept = Request("photos", ("photos/1.jpg", "photos/2.jpg"))
    # Redis may have lost what was submitted before it went away.
    assert bench.after(20) == [kept, Request("photos")]
    assert bench.lines[1:] == ["Job 1: 2 files in photos", "Redis answers again.", "Job 2: looking through photos"]


def test_redis_may_be_away_at_the_start(folder: Path) -> None:
    bench = Bench(folder)
    bench.failure = RedisUnavailable("redis://box", "refused")
    bench.after(10)
    bench.failure = None
    assert bench.after(20) == [Request("photos")]


def test_a_folder_that_vanishes_while_it_is_submitted_is_tried_again(bench: Bench) -> None:
    bench.write("a/1.jpg")
    bench.report(Change.added, "a")
    bench.after(5)
    (bench.folder / "a" / "1.jpg").unlink()
    (bench.folder / "a").rmdir()
    bench.failure = FolderNotFound("photos")
    bench.report(Change.deleted, "a")
    assert bench.after(3) == []
    bench.failure = None
    assert bench.after(3) == [Request("photos")]


def test_nothing_is_removed_when_the_watched_folder_is_gone(bench: Bench) -> None:
    bench.write("1.jpg")
    bench.after(5)
    shutil.rmtree(bench.folder)
    bench.report(Change.deleted, "1.jpg", "")
    with pytest.raises(FolderGone, match="mounted"):
        bench.after(5)
    bench.folder.mkdir()
    (bench.folder.parent / "other").mkdir()
    os.replace(bench.folder.parent / "other", bench.folder)  # noqa: PTH105
    with pytest.raises(FolderGone):
        bench.watcher.tick()
    assert len(bench.requests) == 1


def test_a_link_to_a_folder_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    bench.write("real/1.jpg")
    bench.after(5)
    (bench.folder / "link").symlink_to(bench.folder / "real")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "2.jpg").touch()
    (bench.folder / "out").symlink_to(tmp_path / "outside")
    bench.report(Change.added, "link", "out")
    assert bench.after(5) == []
    # The system may name a file by way of the link.
    bench.report(Change.modified, "link/1.jpg", "out/2.jpg")
    assert bench.after(5) == [Request("photos/real", ("photos/real/1.jpg",))]


def test_a_name_that_is_not_utf8_is_left_to_the_scan(bench: Bench) -> None:
    name = os.fsdecode(b"\xff.jpg")
    (bench.folder / "new").mkdir()
    (bench.folder / "new" / name).touch()
    (bench.folder / "new" / "1.jpg").touch()
    bench.report(Change.added, "new", f"new/{name}")
    assert bench.after(5) == [Request("photos/new", ("photos/new/1.jpg",))]
