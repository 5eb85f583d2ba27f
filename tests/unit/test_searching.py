from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import ModelError
from common.images import ImageDecoder
from common.library import Library
from common.messages import SearchQuery, SearchRecord, SearchResult
from common.ranking import ExactRanker
from common.settings import Settings
from common.store import FeatureStore, image_id
from tests.fakes import FakeExtractor
from tests.unit.helpers import add_picture, encoded, make_store, noise, publish
from workers.decoding import FileReader
from workers.indexing import BatchIndexer
from workers.searching import MicroBatcher, SearchEngine

STAGES = {"total", "queue", "decode", "embed", "rank"}


class BlockedExtractor(FakeExtractor):
    """Waits in each pass until the test lets it go on."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error = error

    def extract(self, pixels: np.ndarray) -> np.ndarray:
        self.entered.release()
        assert self.go.acquire(timeout=20)
        if self.error is not None:
            raise self.error
        return super().extract(pixels)


def in_threads(call: Callable[[int], object], count: int) -> tuple[list[threading.Thread], dict[int, object]]:
    """Starts calls in threads; gives them, and the place for what they return or raise."""
    answers: dict[int, object] = {}

    def run(number: int) -> None:
        try:
            answers[number] = call(number)
        except Exception as error:  # noqa: BLE001 - handed to the test
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def wait_for(batcher: MicroBatcher, waiting: int) -> None:
    """Until so many pictures wait for the next pass."""
    while batcher._waiting.qsize() < waiting:
        threading.Event().wait(0.002)


def picture(number: int) -> np.ndarray:
    return np.asarray(noise(16, 16, seed=number))


# --- micro-batches -----------------------------------------------------------------------------------------------


def test_what_waits_goes_into_one_pass_and_each_gets_its_own_feature() -> None:
    model = BlockedExtractor()
    batcher = MicroBatcher(model)
    first, _ = in_threads(lambda _: batcher.embed(picture(99)), 1)
    assert model.entered.acquire(timeout=20)
    threads, answers = in_threads(lambda number: batcher.embed(picture(number)), 10)
    wait_for(batcher, 10)
    for _ in range(2):
        model.go.release()
    for thread in (*first, *threads):
        thread.join(20)
    assert model.calls == [1, 10]
    expected = FakeExtractor().extract(np.stack([picture(number) for number in range(10)]))
    for number in range(10):
        assert np.allclose(answers[number], expected[number])


def test_a_pass_has_at_most_the_limit() -> None:
    model = BlockedExtractor()
    batcher = MicroBatcher(model, limit=4)
    first, _ = in_threads(lambda _: batcher.embed(picture(99)), 1)
    assert model.entered.acquire(timeout=20)
    threads, _ = in_threads(lambda number: batcher.embed(picture(number)), 9)
    wait_for(batcher, 9)
    for _ in range(4):
        model.go.release()
    for thread in (*first, *threads):
        thread.join(20)
    assert model.calls == [1, 4, 4, 1]


def test_an_error_reaches_all_of_the_pass_and_the_next_one_works() -> None:
    model = BlockedExtractor(ModelError("the weights are damaged"))
    batcher = MicroBatcher(model)
    first, _ = in_threads(lambda _: batcher.embed(picture(99)), 1)
    assert model.entered.acquire(timeout=20)
    threads, answers = in_threads(lambda number: batcher.embed(picture(number)), 5)
    wait_for(batcher, 5)
    for _ in range(2):
        model.go.release()
    for thread in (*first, *threads):
        thread.join(20)
    assert [str(answers[number]) for number in range(5)] == ["the weights are damaged"] * 5
    model.error = None
    model.go.release()
    assert batcher.embed(picture(1)).shape == (8,)


# --- the engine --------------------------------------------------------------------------------------------------


class Bench:
    """An engine over a library of eight indexed pictures."""

    def __init__(self, settings: Settings, tmp_path: Path) -> None:
        self.root = settings.library_roots[0].path
        self.store: FeatureStore = make_store(tmp_path)
        self.model = FakeExtractor()
        library = Library(settings.library_roots)
        self.files = ImageDecoder.for_files(settings, (16, 16))
        names = []
        for number in range(8):
            add_picture(self.root, f"{'ab'[number % 2]}/{number}.png", seed=number)
            names.append(f"photos/{'ab'[number % 2]}/{number}.png")
        reader = FileReader(library, self.files, self.store.has_content)
        BatchIndexer(self.model, self.store, reader).run("s", names, 1, lambda _: None)
        self.model.calls.clear()
        self.engine = SearchEngine(
            embedder=MicroBatcher(self.model),
            store=self.store,
            ranker=ExactRanker(self.store),
            library=library,
            uploads=ImageDecoder.for_uploads(settings, (16, 16)),
            files=self.files,
        )

    def search(self, image: bytes | None = None, submitted_at: float = 0.0, **query: object) -> SearchResult:
        record = SearchRecord(
            query=SearchQuery(**query),  # type: ignore[arg-type]
            result=SearchResult(id="search-1", state="running"),
            submitted_at=submitted_at,
        )
        return self.engine.answer(record, image)


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Bench:
    return Bench(settings, tmp_path)


def test_an_upload_finds_itself_first(bench: Bench) -> None:
    result = bench.search((bench.root / "a" / "4.png").read_bytes(), k=3)
    assert (result.id, result.state, result.error, result.indexed) == ("search-1", "done", None, 8)
    assert (result.model, result.trained) == ("fake/statistics", True)
    assert [hit.rank for hit in result.results] == [1, 2, 3]
    best = result.results[0]
    assert (best.path, best.image_id) == ("photos/a/4.png", image_id("photos/a/4.png"))
    assert (best.width, best.height) == (40, 30)
    assert best.score == pytest.approx(1, abs=1e-3)
    assert [hit.score for hit in result.results] == sorted((hit.score for hit in result.results), reverse=True)


def test_the_time_is_given_by_stage(bench: Bench) -> None:
    result = bench.search(encoded(noise()), submitted_at=0.0)
    assert set(result.took_ms) == STAGES
    parts = sum(value for stage, value in result.took_ms.items() if stage != "total")
    assert result.took_ms["total"] == pytest.approx(parts, abs=0.1)
    assert all(value >= 0 for value in result.took_ms.values())
    # The clock of the host that submitted it may be ahead of ours.
    assert bench.search(encoded(noise()), submitted_at=4e9).took_ms["queue"] == 0


def test_a_stored_image_needs_no_network(bench: Bench) -> None:
    result = bench.search(image_id=image_id("photos/b/3.png"), k=1)
    assert [hit.path for hit in result.results] == ["photos/b/3.png"]
    assert bench.model.calls == []
    assert {"total", "queue", "rank"} <= set(result.took_ms) <= STAGES


def test_folder_and_least_score_are_obeyed(bench: Bench) -> None:
    result = bench.search(image_id=image_id("photos/b/3.png"), folder="photos/a")
    assert {hit.path for hit in result.results} == {f"photos/a/{number}.png" for number in (0, 2, 4, 6)}
    assert len(bench.search(image_id=image_id("photos/b/3.png"), min_score=0.99999).results) == 1


@pytest.mark.parametrize("stored", [True, False])
def test_a_crop_is_what_is_searched_for(bench: Bench, stored: bool) -> None:
    path = bench.root / "a" / "2.png"
    crop = (0.5, 0.5, 1.0, 1.0)
    expected = bench.model.extract(bench.files.decode(path.read_bytes(), crop).pixels[None])[0]
    (bench.root / "part.png").write_bytes(encoded(noise(40, 30, seed=2).crop((20, 15, 40, 30))))
    publish(bench.store, "part", ["photos/other.png"])
    options = {"image_id": image_id("photos/a/2.png")} if stored else {}
    result = bench.search(None if stored else path.read_bytes(), crop=crop, k=9, **options)
    ranked = bench.engine.ranker.search(expected, 9)
    assert [(hit.path, hit.score) for hit in result.results] == [(match.entry.path, match.score) for match in ranked]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "has expired"),
        (b"", "The file is empty."),
        (b"text", "Not an image in a supported format"),
        (encoded(noise())[:300], "damaged"),
    ],
    ids=["expired", "empty", "text", "truncated"],
)
def test_an_upload_that_cannot_be_used_fails_with_the_reason(bench: Bench, image: bytes | None, message: str) -> None:
    result = bench.search(image)
    assert result.state == "failed"
    assert message in (result.error or "")
    assert result.results == []
    assert {"total", "queue"} <= set(result.took_ms)


def test_an_image_that_is_not_stored_fails_with_the_reason(bench: Bench) -> None:
    result = bench.search(image_id="ab" * 16)
    assert result.state == "failed"
    assert "No image abab" in (result.error or "")


def test_a_crop_of_a_file_that_is_gone_fails_with_the_reason(bench: Bench) -> None:
    (bench.root / "a" / "2.png").unlink()
    result = bench.search(image_id=image_id("photos/a/2.png"), crop=(0, 0, 0.5, 0.5))
    assert result.state == "failed"
    assert "photos/a/2.png cannot be read" in (result.error or "")


def test_an_error_of_ours_is_not_shown_to_the_client(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(bench.engine.ranker, "search", fail)
    result = bench.search(encoded(noise()))
    assert result.state == "failed"
    assert "internal error" in (result.error or "")
    assert "secret" not in (result.error or "")


def test_an_empty_store_answers_with_an_empty_list(bench: Bench) -> None:
    (bench.store.segments_path / "s.h5").unlink()
    result = bench.search(encoded(noise()))
    assert (result.state, result.results, result.indexed) == ("done", [], 0)
