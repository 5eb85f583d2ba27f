from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.images import ImageDecoder
from common.library import Library
from common.messages import QueryImage, SearchPosition, SearchQuery, SearchRecord, SearchResult
from common.ranking import ExactRanker, Match
from common.ranking.calibration import Calibrator
from common.searches import QueryFeature, TakenSearch
from common.settings import Settings
from common.stopwatch import lap
from common.store import FeatureStore, image_id
from tests.fakes import FakeExtractor
from tests.unit.helpers import add_picture, encoded, make_store, noise, publish
from workers.decoding import FileReader
from workers.indexing import BatchIndexer
from workers.micro_batches import MicroBatcher
from workers.queries import combined, normalised
from workers.searching import SearchEngine

STAGES = ["total", "queue", "decode", "embed", "rank", "response"]


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
        self.failures: list[str] = []
        self.engine = SearchEngine(
            embedder=MicroBatcher(self.model),
            store=self.store,
            ranker=ExactRanker(self.store),
            calibrator=Calibrator(self.store),
            library=library,
            uploads=ImageDecoder.for_uploads(settings, (16, 16)),
            files=self.files,
            count_failure=self.failures.append,
        )

    def search(
        self, image: bytes | None = None, submitted_at: float = 0.0, upload_ms: float | None = None, **query: object
    ) -> SearchResult:
        uploads = () if image is None else (image,)
        return self.answer(SearchQuery(**query), uploads, submitted_at=submitted_at, upload_ms=upload_ms)[0]  # type: ignore[arg-type]

    def answer(
        self,
        query: SearchQuery,
        uploads: tuple[bytes, ...] | None = (),
        feature: QueryFeature | None = None,
        *,
        submitted_at: float = 0.0,
        upload_ms: float | None = None,
    ) -> tuple[SearchResult, QueryFeature | None]:
        result = SearchResult(id="search-1", state="running")
        record = SearchRecord(query=query, result=result, submitted_at=submitted_at, upload_ms=upload_ms)
        return self.engine.answer(TakenSearch(record, uploads, feature))

    def expected(self, feature: np.ndarray, k: int) -> list[tuple[str, float]]:
        """What the ranker finds for a feature."""
        return [(match.entry.path, match.score) for match in self.engine.ranker.search(feature, k)]

    def feature(self, path: Path) -> np.ndarray:
        """What the model makes of a file."""
        return FakeExtractor().extract(self.files.decode(path.read_bytes()).pixels[None])[0]


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
    assert list(result.took_ms) == STAGES
    parts = sum(value for stage, value in result.took_ms.items() if stage != "total")
    assert result.took_ms["total"] == pytest.approx(parts, abs=0.1)
    assert all(value >= 0 for value in result.took_ms.values())
    # The clock of the host that submitted it may be ahead of ours.
    assert bench.search(encoded(noise()), submitted_at=4e9).took_ms["queue"] == 0


def test_a_stored_image_needs_no_network(bench: Bench) -> None:
    result = bench.search(image_id=image_id("photos/b/3.png"), k=1)
    assert [hit.path for hit in result.results] == ["photos/b/3.png"]
    assert bench.model.calls == []
    assert list(result.took_ms) == ["total", "queue", "rank", "response"]


def test_the_upload_is_taken_over_from_the_web_tier(bench: Bench) -> None:
    took = bench.search(image_id=image_id("photos/b/3.png"), upload_ms=12.5).took_ms
    assert list(took) == ["total", "upload", "queue", "rank", "response"]
    assert took["upload"] == 12.5


def test_a_ranker_can_tell_its_stages_apart(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = bench.engine.ranker.search

    def with_candidates(*args: Any, **options: Any) -> list[Match]:
        lap("candidates")
        return exact(*args, **options)

    monkeypatch.setattr(bench.engine.ranker, "search", with_candidates)
    took = bench.search(image_id=image_id("photos/b/3.png")).took_ms
    assert list(took) == ["total", "queue", "candidates", "rank", "response"]


def test_folder_and_least_score_are_obeyed(bench: Bench) -> None:
    result = bench.search(image_id=image_id("photos/b/3.png"), folder="photos/a")
    assert {hit.path for hit in result.results} == {f"photos/a/{number}.png" for number in (0, 2, 4, 6)}
    assert len(bench.search(image_id=image_id("photos/b/3.png"), min_score=0.99999).results) == 1


def test_each_result_names_its_content(bench: Bench) -> None:
    results = bench.search(encoded(noise()), k=8).results
    expected = {hit.path: sha256((bench.root / hit.path.removeprefix("photos/")).read_bytes()) for hit in results}
    assert {hit.path: hit.content_hash for hit in results} == {
        path: content.hexdigest() for path, content in expected.items()
    }


def test_scores_are_calibrated_as_soon_as_the_collection_is_measured(bench: Bench) -> None:
    assert {hit.percentile for hit in bench.search(encoded(noise())).results} == {None}
    publish(bench.store, "more", [f"photos/more/{number}.png" for number in range(20)])
    bench.search(encoded(noise()))
    bench.engine.calibrator.settle()
    results = bench.search(image_id=image_id("photos/b/3.png"), k=28).results
    percentiles = [hit.percentile for hit in results if hit.percentile is not None]
    assert len(percentiles) == 28
    assert percentiles == sorted(percentiles, reverse=True)
    assert percentiles[0] == pytest.approx(100, abs=0.01)
    assert percentiles[-1] < 50


def test_the_first_result_is_calibrated_if_the_worker_had_a_moment(bench: Bench) -> None:
    publish(bench.store, "more", [f"photos/more/{number}.png" for number in range(20)])
    bench.store.refresh()
    bench.engine.calibrate()
    bench.engine.calibrator.settle()
    assert None not in {hit.percentile for hit in bench.search(encoded(noise())).results}


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
    ("image", "message", "status"),
    [
        (None, "has expired", 503),
        (b"", "The file is empty.", 422),
        (b"text", "Not an image in a supported format", 415),
        (encoded(noise())[:300], "damaged", 422),
    ],
    ids=["expired", "empty", "text", "truncated"],
)
def test_an_upload_that_cannot_be_used_fails_with_the_reason(
    bench: Bench, image: bytes | None, message: str, status: int
) -> None:
    result = bench.search(image)
    assert (result.state, result.error_status) == ("failed", status)
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
    assert result.error_status == 500
    assert "secret" not in (result.error or "")


def test_an_empty_store_answers_with_an_empty_list(bench: Bench) -> None:
    (bench.store.segments_path / "s.h5").unlink()
    result = bench.search(encoded(noise()))
    assert (result.state, result.results, result.indexed) == ("done", [], 0)


# --- several pictures --------------------------------------------------------------------------------------------


def found(result: SearchResult) -> list[tuple[str, float]]:
    assert result.error is None
    return [(hit.path, hit.score) for hit in result.results]


def test_several_uploads_are_one_query_in_one_pass(bench: Bench) -> None:
    files = [bench.root / "a" / "4.png", bench.root / "b" / "1.png", bench.root / "b" / "5.png"]
    weights = (1.0, 0.5, -0.5)
    query = SearchQuery(images=tuple(QueryImage(weight=weight) for weight in weights), k=8)
    result, _ = bench.answer(query, tuple(path.read_bytes() for path in files))
    features = [bench.feature(path) for path in files]
    assert found(result) == bench.expected(combined(features, weights), 8)
    assert bench.model.calls == [3]
    assert list(result.took_ms) == STAGES


def test_stored_pictures_are_one_query_without_the_network(bench: Bench) -> None:
    names = ["photos/a/4.png", "photos/b/1.png"]
    query = SearchQuery(images=tuple(QueryImage(image_id=image_id(name)) for name in names), k=3)
    result, _ = bench.answer(query)
    features = [normalised(bench.store.feature(bench.store.entry(image_id(name)))) for name in names]
    assert found(result) == bench.expected(combined(features, [1, 1]), 3)
    assert {hit.path for hit in result.results[:2]} == set(names)
    assert bench.model.calls == []


def test_uploads_and_stored_pictures_go_together(bench: Bench) -> None:
    stored = image_id("photos/b/1.png")
    upload = bench.root / "a" / "4.png"
    images = (QueryImage(image_id=stored, weight=-0.5), QueryImage(weight=2))
    result, _ = bench.answer(SearchQuery(images=images), (upload.read_bytes(),))
    features = [normalised(bench.store.feature(bench.store.entry(stored))), bench.feature(upload)]
    assert found(result) == bench.expected(combined(features, [-0.5, 2]), 30)


def test_pictures_that_cancel_each_other_out_fail_with_the_reason(bench: Bench) -> None:
    images = (QueryImage(weight=1), QueryImage(image_id=image_id("photos/a/4.png"), weight=-1))
    result, kept = bench.answer(SearchQuery(images=images), ((bench.root / "a" / "4.png").read_bytes(),))
    assert (result.state, kept) == ("failed", None)
    assert "cancel each other out" in (result.error or "")


@pytest.mark.parametrize(
    ("uploads", "message"),
    [((encoded(noise()), b"text"), "Not an image"), ((encoded(noise()),), "has expired"), (None, "has expired")],
)
def test_one_picture_that_cannot_be_used_fails_the_query(
    bench: Bench, uploads: tuple[bytes, ...] | None, message: str
) -> None:
    result, _ = bench.answer(SearchQuery(images=(QueryImage(), QueryImage())), uploads)
    assert result.state == "failed"
    assert message in (result.error or "")
    assert bench.model.calls == []


# --- pages -------------------------------------------------------------------------------------------------------


def position(result: SearchResult) -> SearchPosition:
    last = result.results[-1]
    return SearchPosition(search_id=result.id, rank=last.rank, score=last.score, path=last.path)


def test_pages_go_on_without_the_network(bench: Bench) -> None:
    upload = (bench.root / "a" / "4.png").read_bytes()
    whole = found(bench.answer(SearchQuery(), (upload,))[0])
    page, feature = bench.answer(SearchQuery(k=3), (upload,))
    assert feature is not None
    bench.model.calls.clear()
    pages = [page]
    while pages[-1].next_cursor:
        page, kept = bench.answer(SearchQuery(k=3, after=position(pages[-1])), (), feature)
        assert kept is None
        pages.append(page)
    assert [hit for page in pages for hit in found(page)] == whole
    assert [hit.rank for page in pages for hit in page.results] == list(range(1, 9))
    assert [len(page.results) for page in pages] == [3, 3, 2]
    assert bench.model.calls == []
    assert list(pages[1].took_ms) == ["total", "queue", "rank", "response"]


def test_nothing_is_kept_of_a_search_without_a_next_page(bench: Bench) -> None:
    for k, has_next in ((7, True), (8, False), (30, False)):
        result, kept = bench.answer(SearchQuery(k=k), (encoded(noise()),))
        assert (result.next_cursor is not None, kept is not None) == (has_next, has_next)
        assert len(result.results) == min(k, 8)


def test_a_page_whose_query_has_expired_fails_with_the_reason(bench: Bench) -> None:
    first, feature = bench.answer(SearchQuery(k=3), (encoded(noise()),))
    assert feature is not None
    query = SearchQuery(k=3, after=position(first))
    assert "has expired" in (bench.answer(query)[0].error or "")
    other = replace(feature, fingerprint="another")
    assert "model has changed" in (bench.answer(query, (), other)[0].error or "")
