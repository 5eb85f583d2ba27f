from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.images import ImageDecoder
from common.library import Library
from common.settings import Settings
from common.store import FeatureStore, Tombstone, compact
from tests.fakes import FakeExtractor
from tests.unit.helpers import add_picture, live, make_store, segment_file
from workers.decoding import FileReader
from workers.indexing import BatchIndexer, BatchOutcome


class Bench:
    """An indexer with a fake model, and all that it needs."""

    def __init__(self, settings: Settings, tmp_path: Path, cache: str = "cache") -> None:
        self.root = settings.library_roots[0].path
        self.store: FeatureStore = make_store(tmp_path, cache=cache)
        self.model = FakeExtractor()
        self.decoder = ImageDecoder((16, 16), max_bytes=10**6, max_pixels=10**6, bytes_setting="MAX_FILE_BYTES")
        self.reader = FileReader(Library(settings.library_roots), self.decoder, self.store.has_content)
        self.indexer = BatchIndexer(self.model, self.store, self.reader)
        self.reports: list[int] = []

    def run(self, name: str, *files: str, sequence: int = 1) -> BatchOutcome:
        return self.indexer.run(name, [f"photos/{file}" for file in files], sequence, self.reports.append)

    def expected(self, file: str) -> np.ndarray:
        """The feature that a file must have."""
        pixels = self.decoder.decode((self.root / file).read_bytes()).pixels
        return FakeExtractor().extract(pixels[None])[0].astype(np.float16)

    def assert_aligned(self) -> None:
        """Every live row has the feature, size and thumbnail of its own file."""
        self.store.refresh()
        for entry in self.store.catalog.below(None):
            path = self.root / entry.record.path
            assert np.array_equal(self.store.feature(entry), self.expected(entry.record.path)), entry.path
            status = path.stat()
            assert (entry.record.size, entry.record.mtime_ns) == (status.st_size, status.st_mtime_ns)
            assert self.store.thumbnail(entry) == self.decoder.decode(path.read_bytes()).thumbnail


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Bench:
    return Bench(settings, tmp_path)


def test_feature_i_is_that_of_path_i(bench: Bench) -> None:
    files = []
    for number in range(45):
        # Failures and duplicates in between must not shift anything.
        files.append(f"{number:02}.jpg")
        if number % 7 == 3:
            (bench.root / files[-1]).write_bytes(b"no picture")
        else:
            add_picture(bench.root, files[-1], seed=number // 2)
    outcome = bench.run("s", *files)
    assert len(live(bench.store)) == outcome.done == 39
    assert set(outcome.failed) == {f"photos/{number:02}.jpg" for number in range(45) if number % 7 == 3}
    bench.assert_aligned()


@pytest.mark.parametrize(("full", "passes"), [(16, [16, 16, 8]), (64, [40])])
def test_passes_of_the_network_are_full(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: int, passes: list[int]
) -> None:
    monkeypatch.setattr(FakeExtractor, "full_batch", full)
    bench = Bench(settings, tmp_path)
    files = [f"{number:02}.png" for number in range(40)]
    for number, file in enumerate(files):
        add_picture(bench.root, file, seed=number)
    assert bench.run("s", *files) == BatchOutcome(done=40)
    assert bench.model.calls == passes


def test_progress_is_reported_now_and_then(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [f"{number:02}.png" for number in range(40)]
    for number, file in enumerate(files):
        add_picture(bench.root, file, seed=number)
    bench.run("quick", *files[:1])
    assert bench.reports == [], "the batch was over before there was anything to report"
    monkeypatch.setattr("workers.indexing.REPORT_EVERY_SECONDS", 0.0)
    bench.run("s", *files)
    assert bench.reports == sorted(bench.reports)
    # The first of them is a copy: it costs no pass.
    assert {0, 17, 33} <= set(bench.reports)
    assert bench.reports[-1] <= 40


def test_failures_are_counted_with_their_reason(bench: Bench) -> None:
    add_picture(bench.root, "good.jpg")
    (bench.root / "empty.jpg").write_bytes(b"")
    outcome = bench.run("s", "good.jpg", "empty.jpg", "gone.jpg")
    assert outcome.done == 1
    assert outcome.failed == {
        "photos/empty.jpg": "The file is empty.",
        "photos/gone.jpg": "The file was removed before it could be read.",
    }


def test_a_batch_without_a_single_picture_publishes_nothing(bench: Bench) -> None:
    (bench.root / "a.jpg").write_bytes(b"no picture")
    assert bench.run("s", "a.jpg").done == 0
    assert list(bench.store.segments_path.iterdir()) == []
    assert bench.model.calls == []


def test_the_same_content_runs_once_within_a_batch(bench: Bench) -> None:
    for number in range(40):
        add_picture(bench.root, f"{number:02}.jpg", seed=number % 3)
    outcome = bench.run("s", *(f"{number:02}.jpg" for number in range(40)))
    assert (outcome.done, outcome.duplicates) == (40, 37)
    assert bench.model.pictures == 3
    bench.assert_aligned()


def test_content_of_an_earlier_segment_needs_no_network(bench: Bench, settings: Settings, tmp_path: Path) -> None:
    add_picture(bench.root, "a.jpg", seed=1)
    bench.run("s1", "a.jpg")
    add_picture(bench.root, "copy.jpg", seed=1)
    other = Bench(settings, tmp_path, cache="another-host")
    outcome = other.run("s2", "copy.jpg")
    assert (outcome.done, outcome.duplicates) == (1, 1)
    assert other.model.calls == []
    other.assert_aligned()
    assert set(live(bench.store)) == {"photos/a.jpg", "photos/copy.jpg"}


def test_a_moved_file_needs_no_network(bench: Bench) -> None:
    path = add_picture(bench.root, "a.jpg", seed=1)
    bench.run("s1", "a.jpg", sequence=1)
    path.rename(bench.root / "b.jpg")
    bench.store.publish("s2", precision="none", tombstones=[Tombstone("photos/a.jpg", 2)])
    outcome = bench.run("s3", "b.jpg", sequence=2)
    assert (outcome.done, outcome.duplicates, bench.model.pictures) == (1, 1, 1)
    assert live(bench.store) == {"photos/b.jpg": 2}
    bench.assert_aligned()


def test_a_changed_file_is_embedded_anew(bench: Bench) -> None:
    add_picture(bench.root, "a.jpg", seed=1)
    bench.run("s1", "a.jpg", sequence=1)
    add_picture(bench.root, "a.jpg", seed=2)
    assert bench.run("s2", "a.jpg", sequence=2) == BatchOutcome(done=1)
    assert live(bench.store) == {"photos/a.jpg": 2}
    bench.assert_aligned()


def test_a_batch_that_runs_twice_adds_nothing(bench: Bench) -> None:
    files = [f"{number}.jpg" for number in range(5)]
    for number, file in enumerate(files):
        add_picture(bench.root, file, seed=number)
    bench.run("s", *files)
    before = segment_file(bench.store, "s").read_bytes()
    assert bench.run("s", *files).done == 5
    assert segment_file(bench.store, "s").read_bytes() == before
    assert [path.name for path in bench.store.segments_path.iterdir()] == ["s.h5"]
    assert bench.model.pictures == 5
    assert len(live(bench.store)) == 5


def test_content_whose_segment_went_meanwhile_is_embedded_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    add_picture(bench.root, "a.jpg", seed=1)
    bench.run("s1", "a.jpg")
    add_picture(bench.root, "b.jpg", seed=1)
    content = bench.store.content

    def lose_the_segment(content_hash: bytes) -> object:
        monkeypatch.undo()
        segment_file(bench.store, "s1").unlink()
        bench.store.refresh()
        return content(content_hash)

    monkeypatch.setattr(bench.store, "content", lose_the_segment)
    assert bench.run("s2", "b.jpg") == BatchOutcome(done=1)
    assert bench.model.pictures == 2
    bench.assert_aligned()


def test_duplicates_of_compacted_content_are_found(bench: Bench) -> None:
    for number in range(4):
        add_picture(bench.root, f"{number}.jpg", seed=number)
        bench.run(f"s{number}", f"{number}.jpg")
    compact(bench.store)
    for number in range(4):
        add_picture(bench.root, f"copy{number}.jpg", seed=number)
    assert bench.run("s9", *(f"copy{number}.jpg" for number in range(4))).duplicates == 4
    assert bench.model.pictures == 4
    bench.assert_aligned()


def test_a_model_that_fails_publishes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> np.ndarray:
        raise RuntimeError("out of memory")

    add_picture(bench.root, "a.jpg")
    monkeypatch.setattr(bench.model, "extract", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        bench.run("s", "a.jpg")
    assert list(bench.store.segments_path.iterdir()) == []
