"""Answers a search: decode, embed together with what else is waiting, rank."""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import ImageSearchError, UnreadableFile
from common.images import ImageDecoder, Pixels
from common.library import Library, Location
from common.messages import SearchHit, SearchQuery, SearchRecord, SearchResult
from common.ranking import Match, Ranker
from common.store import FeatureStore
from workers.extractor import BATCH_SIZES, FeatureExtractor

logger = logging.getLogger(__name__)

Feature = npt.NDArray[np.float32]


class MicroBatcher:
    """Embeds pictures from many threads in the forward passes of one.

    Whatever waits when the network becomes free goes into the next pass; an idle network starts at once.
    """

    def __init__(self, extractor: FeatureExtractor, limit: int = BATCH_SIZES[-1]) -> None:
        self._extractor = extractor
        self._limit = limit
        self._waiting: queue.SimpleQueue[tuple[Pixels, Future[Feature]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="embed", daemon=True).start()

    def embed(self, pixels: Pixels) -> Feature:
        """The feature of one (h, w, 3) picture, (d,) float32.

        Raises:
            ModelError: The model failed.
        """
        future: Future[Feature] = Future()
        self._waiting.put((pixels, future))
        return future.result()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._limit:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            futures = [future for _, future in batch]
            try:
                features = self._extractor.extract(np.stack([pixels for pixels, _ in batch]))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must be told
                for future in futures:
                    future.set_exception(error)
                continue
            for future, feature in zip(futures, features, strict=True):
                future.set_result(feature)


@dataclass
class SearchEngine:
    """Everything that a search needs."""

    embedder: MicroBatcher
    store: FeatureStore
    ranker: Ranker
    library: Library
    uploads: ImageDecoder
    files: ImageDecoder

    def answer(self, record: SearchRecord, image: bytes | None) -> SearchResult:
        """Runs a search.

        Args:
            record: What is searched for.
            image: The uploaded picture, unless the query names a stored one.

        Returns:
            The ranked results, or the state `failed` with a reason that a person understands.
        """
        watch = _StopWatch(record.submitted_at)
        base = SearchResult(
            id=record.result.id,
            state="failed",
            model=self.store.spec.name,
            trained=self.store.spec.trained,
        )
        try:
            matches = self._matches(record.query, image, watch)
        except ImageSearchError as error:
            return base.model_copy(update={"error": str(error), "took_ms": watch.stages()})
        except Exception:
            logger.exception("search %s failed", record.result.id)
            message = "The search failed because of an internal error; the worker's log has the details."
            return base.model_copy(update={"error": message, "took_ms": watch.stages()})
        hits = [_hit(rank, match) for rank, match in enumerate(matches, start=1)]
        changes = {"state": "done", "results": hits, "indexed": len(self.store), "took_ms": watch.stages()}
        return base.model_copy(update=changes)

    def _matches(self, query: SearchQuery, image: bytes | None, watch: _StopWatch) -> list[Match]:
        feature = self._feature(query, image, watch)
        matches = self.ranker.search(feature, query.k, folder=query.folder, min_score=query.min_score)
        watch.lap("rank")
        return matches

    def _feature(self, query: SearchQuery, image: bytes | None, watch: _StopWatch) -> Feature:
        decoder = self.uploads
        if query.image_id is not None:
            self.store.refresh()
            entry = self.store.entry(query.image_id)
            if query.crop is None:
                return _normalised(self.store.feature(entry))
            decoder = self.files
            try:
                image = self.library.resolve(Location(entry.record.root, entry.record.path)).read_bytes()
            except OSError as error:
                raise UnreadableFile(f"{entry.path} cannot be read: {error.strerror}") from error
        if image is None:
            raise ImageSearchError("The uploaded picture has expired before a worker came to it: submit it again.")
        pixels = decoder.decode(image, query.crop, thumbnail=False).pixels
        watch.lap("decode")
        feature = self.embedder.embed(pixels)
        watch.lap("embed")
        return feature


class _StopWatch:
    """Milliseconds by stage, since the search was submitted."""

    def __init__(self, submitted_at: float) -> None:
        self._submitted_at = submitted_at
        # The submitting host's clock may be ahead of ours.
        self._stages = {"queue": max(0.0, time.time() - submitted_at) * 1000}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._stages[stage] = (now - self._last) * 1000
        self._last = now

    def stages(self) -> dict[str, float]:
        rounded = {stage: round(value, 2) for stage, value in self._stages.items()}
        return {"total": round(sum(self._stages.values()), 2), **rounded}


def _normalised(feature: npt.NDArray[np.float16]) -> Feature:
    exact = feature.astype(np.float32)
    norm = float(np.linalg.norm(exact))
    return exact / norm if norm > 0 else exact


def _hit(rank: int, match: Match) -> SearchHit:
    record = match.entry.record
    return SearchHit(
        image_id=match.entry.image_id,
        path=match.entry.path,
        width=record.width,
        height=record.height,
        rank=rank,
        score=match.score,
        distance=match.distance,
    )
