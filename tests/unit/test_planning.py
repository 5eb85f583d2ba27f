from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import LibraryError
from common.journal import JobJournal
from common.library import Library
from common.progress import JobBoard
from common.redis_client import connect
from common.settings import Settings
from common.store import CatalogEntry, FeatureStore, ImageRecord, image_id
from tests.unit.helpers import live, make_store, publish, record
from workers import planning
from workers.comparing import Change, Gone, Unchanged, compare, compare_paths
from workers.plan_folder import PlanFolder, batch_size
from workers.planning import Planner
from workers.scanning import FoundFile, ScanProblem

FILE = FoundFile


def entry(path: str, size: int = 1, mtime_ns: int = 1) -> CatalogEntry:
    root, _, relative = path.partition("/")
    return CatalogEntry(image_id(path), ImageRecord(root, relative, size, mtime_ns, b"\0" * 32, 1, 1, 1), 1, 0)


def by_kind(changes: list[Change]) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {"new": set(), "unchanged": set(), "gone": set(), "problem": set()}
    for change in changes:
        if isinstance(change, FoundFile):
            kinds["new"].add(change.public_path)
        elif isinstance(change, ScanProblem):
            kinds["problem"].add(change.public_path)
        else:
            kinds["gone" if isinstance(change, Gone) else "unchanged"].add(change.entry.path)
    return kinds


# --- comparing ---------------------------------------------------------------------------------------------------


def test_new_changed_unchanged_and_gone_are_told_apart() -> None:
    found = [FILE("p/changed-size", 2, 1), FILE("p/changed-time", 1, 2), FILE("p/new", 1, 1), FILE("p/same", 1, 1)]
    stored = [entry("p/changed-size"), entry("p/changed-time"), entry("p/gone"), entry("p/same"), entry("p/zz")]
    assert by_kind(list(compare(iter(found), iter(stored)))) == {
        "new": {"p/changed-size", "p/changed-time", "p/new"},
        "unchanged": {"p/same"},
        "gone": {"p/gone", "p/zz"},
        "problem": set(),
    }


def test_a_file_older_than_the_stored_one_counts_as_changed() -> None:
    (change,) = compare(iter([FILE("p/a", 1, 1)]), iter([entry("p/a", 1, 2)]))
    assert isinstance(change, FoundFile)


def test_what_is_below_a_folder_that_cannot_be_read_is_not_gone() -> None:
    found = [FILE("p/a/1", 1, 1), ScanProblem("p/b", "denied", is_folder=True), FILE("p/c/1", 1, 1)]
    stored = [entry(path) for path in ("p/a/1", "p/b-2/gone", "p/b/1", "p/b/x/2", "p/b0/gone", "p/c/1")]
    kinds = by_kind(list(compare(iter(found), iter(stored))))
    assert kinds["gone"] == {"p/b-2/gone", "p/b0/gone"}
    assert kinds["problem"] == {"p/b"}
    last = by_kind(list(compare(iter(found[:2]), iter(stored[:5]))))
    assert last["gone"] == {"p/b-2/gone", "p/b0/gone"}


def test_a_file_that_cannot_be_read_is_not_gone() -> None:
    found = [ScanProblem("p/a", "denied", is_folder=False)]
    assert by_kind(list(compare(iter(found), iter([entry("p/a"), entry("p/a0")]))))["gone"] == {"p/a0"}


@pytest.mark.parametrize("seed", range(20))
def test_it_equals_the_difference_of_sets(seed: int) -> None:
    rng = random.Random(seed)
    letters = ["a", "B", "-", ".", "é", "/x/", "0", "\U0001f600", "\uffff"]
    names = sorted({"p/" + "".join(rng.choices(letters, k=rng.randrange(1, 5))) for _ in range(120)}, key=str.encode)
    found = {name: rng.choice([(1, 1), (1, 1), (2, 1), (1, 2)]) for name in names if rng.random() < 0.7}
    stored = [name for name in names if rng.random() < 0.7]
    changes = list(compare((FILE(name, *stat) for name, stat in found.items()), (entry(name) for name in stored)))
    same = {name for name in stored if found.get(name) == (1, 1)}
    assert by_kind(changes) == {
        "new": set(found) - same,
        "unchanged": same,
        "gone": set(stored) - set(found),
        "problem": set(),
    }
    assert len(changes) == len(set(found) | set(stored))


# --- planning ----------------------------------------------------------------------------------------------------


class Desk:
    """A planner with all that it needs, and the batches that it sent."""

    def __init__(self, settings: Settings, tmp_path: Path) -> None:
        self.root = settings.library_roots[0].path
        self.board = JobBoard(connect(settings))
        self.store: FeatureStore = make_store(tmp_path)
        self.sent: list[tuple[str, str]] = []
        self.on_send: Callable[[], None] = lambda: None
        self.folder = lambda job_id: PlanFolder(settings.data_dir, job_id)
        self.planner = Planner(
            board=self.board,
            store=self.store,
            library=Library(settings.library_roots),
            data_dir=settings.data_dir,
            enqueue=self._enqueue,
        )

    def _enqueue(self, job_id: str, batch: str) -> None:
        self.sent.append((job_id, batch))
        self.on_send()

    def touch(self, *names: str) -> None:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())

    def plan(self, folder: str = "photos", size: int = 16) -> str:
        job_id = self.board.create(folder).id
        self.planner.plan(job_id, size)
        return job_id

    def batches(self, job_id: str) -> list[list[str]]:
        """The files of the batches of the current plan."""
        plan = f"{self.board.current_plan(job_id):03}-"
        names = [batch for job, batch in self.sent if job == job_id and batch.startswith(plan)]
        return [self.folder(job_id).read(batch) or [] for batch in names]

    def index(self, job_id: str, name: str, paths: list[str]) -> None:
        """What a batch leaves in the store."""
        rows = []
        for path in paths:
            status = (self.root / path.partition("/")[2]).stat()
            row = record(path, self.board.sequence(job_id, 0))
            root, _, relative = path.partition("/")
            rows.append(
                ImageRecord(root, relative, status.st_size, status.st_mtime_ns, row.content_hash, 1, 1, row.sequence)
            )
        import numpy as np

        features = np.eye(len(rows), 8, dtype=np.float32)
        self.store.publish(name, precision="float32", records=rows, features=features, thumbnails=[b""] * len(rows))

    def run(self, folder: str = "photos") -> str:
        """A whole job: plans it and does its batches."""
        job_id = self.plan(folder)
        plan = self.board.current_plan(job_id) or 0
        for number, paths in enumerate(self.batches(job_id), start=1):
            self.index(job_id, f"{job_id}-{number}", paths)
            self.board.finish_batch(job_id, plan, f"{plan:03}-{number:06}", done=len(paths), failed={}, duplicates=0)
        return job_id


@pytest.fixture
def desk(settings: Settings, tmp_path: Path) -> Desk:
    return Desk(settings, tmp_path)


def test_all_files_of_a_new_folder_are_in_its_batches(desk: Desk) -> None:
    desk.touch(*(f"a/{number:03}.jpg" for number in range(40)))
    job_id = desk.plan(size=16)
    batches = desk.batches(job_id)
    assert [path for batch in batches for path in batch] == [f"photos/a/{number:03}.jpg" for number in range(40)]
    assert [len(batch) for batch in batches] == [16, 16, 8]
    job = desk.board.get(job_id)
    assert (job.state, job.found, job.total, job.unchanged) == ("running", 40, 40, 0)


def test_the_first_batch_goes_out_early(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "FIRST_BATCH_SECONDS", -1.0)
    desk.touch(*(f"{number:03}.jpg" for number in range(40)))
    assert [len(batch) for batch in desk.batches(desk.plan(size=30))] == [1, 30, 9]


def test_a_second_job_finds_everything_unchanged(desk: Desk) -> None:
    desk.touch("a.jpg", "b.jpg")
    assert desk.board.get(desk.run()).state == "done"
    second = desk.board.get(desk.run())
    assert (second.state, second.found, second.unchanged, second.total) == ("done", 2, 2, 0)


def test_only_new_and_changed_files_are_planned(desk: Desk) -> None:
    desk.touch("a.jpg", "b.jpg", "c.jpg")
    desk.run()
    (desk.root / "b.jpg").write_bytes(b"longer than before")
    desk.touch("d.jpg")
    job_id = desk.plan()
    assert desk.batches(job_id) == [["photos/b.jpg", "photos/d.jpg"]]
    job = desk.board.get(job_id)
    assert (job.found, job.unchanged, job.total, job.removed) == (4, 2, 2, 0)


def test_images_whose_files_are_gone_are_taken_out(desk: Desk) -> None:
    desk.touch("a/1.jpg", "a/2.jpg", "b/3.jpg")
    desk.run()
    (desk.root / "a" / "1.jpg").unlink()
    (desk.root / "b" / "3.jpg").unlink()
    assert desk.board.get(desk.run("photos/a")).removed == 1
    assert set(live(desk.store)) == {"photos/a/2.jpg", "photos/b/3.jpg"}, "only below the folder of the job"
    assert desk.board.get(desk.run()).removed == 1
    assert set(live(desk.store)) == {"photos/a/2.jpg"}
    desk.touch("a/1.jpg")
    desk.run()
    assert set(live(desk.store)) == {"photos/a/1.jpg", "photos/a/2.jpg"}


def test_an_empty_folder_removes_nothing(desk: Desk) -> None:
    desk.touch("a.jpg", "b.jpg")
    desk.run()
    for name in ("a.jpg", "b.jpg"):
        (desk.root / name).unlink()
    with pytest.raises(LibraryError, match=r"holds no pictures, but 2 of it are indexed\. Is the disk mounted"):
        desk.plan()
    assert len(live(desk.store)) == 2


def test_a_link_out_is_counted_as_failed(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (desk.root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    job = desk.board.get(desk.plan())
    assert (job.state, job.found, job.total, job.failed) == ("done", 1, 1, 1)
    assert [error.path for error in desk.board.errors(job.id)] == ["photos/link.jpg"]


def test_a_repeated_scan_counts_what_the_first_one_did(desk: Desk) -> None:
    desk.touch("old.jpg")
    desk.run()
    desk.touch(*(f"{number:02}.jpg" for number in range(20)))
    job_id = desk.plan(size=16)
    first, _ = desk.batches(job_id)
    desk.index(job_id, "first", first)
    desk.planner.plan(job_id, 16)  # the worker died before it acknowledged the scan
    job = desk.board.get(job_id)
    assert (job.found, job.unchanged, job.total, job.done) == (21, 1, 20, 16)
    assert desk.batches(job_id) == [[f"photos/{number}.jpg" for number in range(16, 20)]]
    assert desk.board.finish_batch(job_id, 2, "002-000001", done=4, failed={}, duplicates=0)


def test_two_scans_of_one_job_at_once_count_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_FLUSH_EVERY", 5)
    desk.touch(*(f"{number:02}.jpg" for number in range(40)))
    job_id = desk.board.create("photos").id

    def overtake() -> None:
        desk.on_send = lambda: None
        desk.planner.plan(job_id, 16)  # a second delivery, while the first still runs

    desk.on_send = overtake
    assert not desk.planner.plan(job_id, 16)
    job = desk.board.get(job_id)
    assert (job.state, job.found, job.total) == ("running", 40, 40)
    assert sorted(path for batch in desk.batches(job_id) for path in batch) == [
        f"photos/{number:02}.jpg" for number in range(40)
    ]
    for number, batch in enumerate(desk.batches(job_id), start=1):
        desk.board.finish_batch(job_id, 2, f"002-{number:06}", done=len(batch), failed={}, duplicates=0)
    assert desk.board.get(job_id).state == "done"


@pytest.mark.parametrize("ending", ["cancelled", "failed"])
def test_a_job_that_ended_before_its_scan_stays_ended(desk: Desk, ending: str) -> None:
    desk.touch("a.jpg")
    job_id = desk.board.create("photos").id
    if ending == "cancelled":
        desk.board.control(job_id, "cancelled")
    else:
        desk.board.fail(job_id, "why")
    assert not desk.planner.plan(job_id, 16)
    assert desk.board.get(job_id).state == ending
    assert desk.sent == []


def test_a_scan_stops_when_its_job_is_cancelled(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_FLUSH_EVERY", 5)
    desk.touch(*(f"{number:02}.jpg" for number in range(30)))
    desk.run()
    (desk.root / "00.jpg").unlink()
    desk.touch(*(f"{number:03}-new.jpg" for number in range(60)))
    job_id = desk.board.create("photos").id
    desk.on_send = lambda: desk.board.control(job_id, "cancelled") and None
    assert not desk.planner.plan(job_id, 16)
    assert desk.board.get(job_id).state == "cancelled"
    assert len([batch for job, batch in desk.sent if job == job_id]) == 1
    assert "photos/00.jpg" in live(desk.store)


@pytest.mark.parametrize(
    ("rate", "seconds", "expected"),
    [(None, 15, 120), (2.0, 15, 30), (0.1, 15, 16), (1000.0, 15, 2048), (10.0, 2.5, 25)],
)
def test_a_batch_is_some_seconds_of_work(rate: float | None, seconds: float, expected: int) -> None:
    assert batch_size(rate, seconds) == expected


def test_the_files_of_a_batch_are_kept_until_it_is_done(tmp_path: Path) -> None:
    folder = PlanFolder(tmp_path, "job")
    assert folder.read("001-000001") is None
    folder.write("001-000001", ["photos/ü.jpg", "photos/line\nbreak.jpg"])
    assert folder.read("001-000001") == ["photos/ü.jpg", "photos/line\nbreak.jpg"]
    folder.remove("001-000001")
    folder.remove("001-000001")
    assert folder.read("001-000001") is None
    folder.write("001-000002", [])
    JobJournal(tmp_path).end("job")
    JobJournal(tmp_path).end("job")
    assert folder.read("001-000002") is None


def test_unchanged_carries_its_entry() -> None:
    (change,) = compare(iter([FILE("p/a", 1, 1)]), iter([entry("p/a")]))
    assert change == Unchanged(entry("p/a"))


def test_single_paths_are_compared_whatever_is_beside_them(settings: Settings, library: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for name in ("new.jpg", "same.jpg", "other.jpg", "folder/inside.jpg"):
        (library / name).parent.mkdir(exist_ok=True)
        (library / name).write_bytes(b"x")
    status = (library / "same.jpg").stat()
    same = ImageRecord("photos", "same.jpg", status.st_size, status.st_mtime_ns, b"\0" * 32, 1, 1, 1)
    publish(store, "s", [same, record("photos/gone.jpg", 1), record("photos/kept.jpg", 1)])
    store.refresh()
    names = ("new.jpg", "same.jpg", "gone.jpg", "never.jpg", "folder", "../out.jpg")
    changes = compare_paths(Library(settings.library_roots), store, [f"photos/{name}" for name in names])
    assert by_kind(list(changes)) == {
        "new": {"photos/new.jpg", "photos/folder/inside.jpg"},
        "unchanged": {"photos/same.jpg"},
        "gone": {"photos/gone.jpg"},
        "problem": {"photos/../out.jpg"},
    }
