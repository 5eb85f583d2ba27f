"""Answers a search: decode, embed together with what else is waiting, rank."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from common.error_status import status_of
from common.errors import ImageSearchError, ModelError, StoreUnreadable, UnreadableFile, UploadExpired, kind_of
from common.images import PictureDecoder, Pixels
from common.library import Library, Location
from common.messages import Crop, QueryImage, SearchHit, SearchQuery, SearchRecord, SearchResult
from common.ranking import Match, Ranker
from common.ranking.calibration import Calibrator
from common.ranking.paging import ranked_page
from common.searches import QueryFeature, TakenSearch
from common.stopwatch import StopWatch, lap, milliseconds_since
from common.store import CatalogEntry, FeatureStore
from workers.extractor import FULL_BATCH, FeatureExtractor
from workers.queries import Feature, combined, kept, normalised, restored

logger = logging.getLogger(__name__)

# How long a free network waits for pictures that are being decoded, so that they share its next pass. Decoding a
# photo takes about as long; a pass takes several times longer on a processor, and each one that is shared saves one.
PATIENCE_SECONDS = 0.005

# A search of many pictures must not take all cores from the others.
_DECODERS = 4

_Waiting = tuple[Pixels, "Future[Feature]"]


class MicroBatcher:
    """Embeds pictures from many threads in the forward passes of one.

    What waits when the network becomes free goes into the next pass. Of many, half is left for the one after it:
    clients that search again and again would else all be answered at once, and the network stand still until they
    are back.
    A free network waits only while other pictures are known to be on their way, and then for a moment: a single
    search starts at once.

    Args:
        extractor: The network; called from one thread.
        limit: The most pictures in a pass.
        patience: How long a pass may be put off for pictures on their way, in seconds.
    """

    def __init__(
        self, extractor: FeatureExtractor, limit: int = FULL_BATCH, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._extractor = extractor
        self._limit = limit
        self._patience = patience
        self._changed = threading.Condition()
        self._coming = 0
        self._waiting: list[_Waiting] = []
        self._thread: threading.Thread | None = None

    def embed(self, decode: Callable[[], Pixels]) -> Feature:
        """The feature of one picture, (d,) float32.

        Args:
            decode: Gives the picture, (h, w, 3); called at once, in this thread.

        Raises:
            ModelError: The model failed.
            Exception: Whatever `decode` raises.
        """
        return self.embed_all(lambda: [decode()])[0]

    def embed_all(self, decode: Callable[[], Sequence[Pixels]]) -> list[Feature]:
        """The features of several pictures, which go into the same pass if there is room for them; see `embed`."""
        futures: list[Future[Feature]] = []
        with self._on_its_way() as arrived:
            for pixels in decode():
                futures.append(Future())
                arrived.append((pixels, futures[-1]))
        return [future.result() for future in futures]

    @contextmanager
    def _on_its_way(self) -> Iterator[list[_Waiting]]:
        """Counts a query that is being decoded; what the block puts into the list then waits for the network."""
        with self._changed:
            self._coming += 1
        arrived: list[_Waiting] = []
        try:
            yield arrived
        finally:
            # In one step, so that at no moment it is neither on its way nor waiting.
            with self._changed:
                self._coming -= 1
                self._waiting += arrived
                if self._waiting and self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="embed", daemon=True)
                    self._thread.start()
                self._changed.notify_all()

    def _run(self) -> None:
        batch: list[_Waiting] = []
        try:
            while True:
                batch = self._next_batch()
                self._pass(batch)
        finally:
            # Nothing is known to end this thread, but whatever does: nobody may wait for it, and the next picture
            # starts another one.
            with self._changed:
                left, self._waiting, self._thread = [*batch, *self._waiting], [], None
            for _, future in left:
                if not future.done():
                    future.set_exception(ModelError("The thread of the model ended unexpectedly."))

    def _next_batch(self) -> list[_Waiting]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            self._changed.wait_for(lambda: not self._coming or len(self._waiting) >= self._limit, self._patience)
            size = min(self._limit, max(self._limit // 2, len(self._waiting) // 2))
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
        return batch

    def _pass(self, batch: list[_Waiting]) -> None:
        try:
            features = self._extractor.extract(np.stack([pixels for pixels, _ in batch]))
            if len(features) != len(batch):
                raise ModelError(f"The model gave {len(features)} features for {len(batch)} pictures.")
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must be told
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), feature in zip(batch, features, strict=True):
                future.set_result(feature)


@dataclass
class SearchEngine:
    """Everything that a search needs.

    Attributes:
        embedder: The network.
        store: What is searched.
        ranker: Compares a feature with what is stored.
        calibrator: Says what a score means in this collection.
        library: Where the files are.
        uploads: Decodes uploaded pictures.
        files: Decodes files of the library.
        count_failure: Told the kind of each error that a search ends with.
    """

    embedder: MicroBatcher
    store: FeatureStore
    ranker: Ranker
    calibrator: Calibrator
    library: Library
    uploads: PictureDecoder
    files: PictureDecoder
    count_failure: Callable[[str], None]

    def calibrate(self) -> None:
        """Has the scores calibrated, in the background, if the collection is no longer what they were measured with."""
        self.calibrator.current(len(self.store))

    def answer(self, search: TakenSearch) -> tuple[SearchResult, QueryFeature | None]:
        """Runs a search.

        Args:
            search: What is searched for.

        Returns:
            The ranked results, or the state `failed` with a reason that a person understands; and what has to be
            kept for the next pages, if this is the first of several.
        """
        record = search.record
        before = {} if record.upload_ms is None else {"upload": record.upload_ms}
        watch = StopWatch({**before, "queue": milliseconds_since(record.submitted_at)})
        with watch.running():
            outcome, feature = self._outcome(search)
        result = SearchResult(
            id=record.result.id,
            model=self.store.spec.name,
            trained=self.store.spec.trained,
            took_ms=watch.took_ms(),
            **outcome,
        )
        return result, feature

    def _outcome(self, search: TakenSearch) -> tuple[dict[str, Any], QueryFeature | None]:
        try:
            feature = self._feature(search)
            outcome = self._ranked(search.record, feature)
        except ImageSearchError as error:
            return self._failed(error), None
        except (OSError, sqlite3.OperationalError) as error:
            return self._failed(StoreUnreadable(self.store.path, error)), None
        except Exception:
            logger.exception("search %s failed", search.record.result.id)
            self.count_failure("internal")
            message = "The search failed because of an internal error; the worker's log has the details."
            return {"state": "failed", "error": message, "error_status": 500}, None
        is_first = search.record.query.after is None and outcome["next_cursor"] is not None
        return outcome, kept(feature, self.store.spec.fingerprint) if is_first else None

    def _failed(self, error: ImageSearchError) -> dict[str, Any]:
        logger.info("the search failed: %s", error)
        self.count_failure(kind_of(error))
        return {"state": "failed", "error": str(error), "error_status": status_of(error)}

    def _ranked(self, record: SearchRecord, feature: Feature) -> dict[str, Any]:
        query, after = record.query, record.query.after
        matches, more = ranked_page(
            self.ranker, feature, query.k, after=after, folder=query.folder, min_score=query.min_score
        )
        lap("rank")
        images = len(self.store)
        hits = self._hits(matches, 1 if after is None else after.rank + 1, images)
        cursor = record.result.id if more else None
        outcome = {"state": "done", "results": hits, "indexed": images, "next_cursor": cursor}
        lap("response")
        return outcome

    def _hits(self, matches: Sequence[Match], first_rank: int, images: int) -> list[SearchHit]:
        calibration = self.calibrator.current(images)
        percentiles: Sequence[float | None] = [None] * len(matches)
        if calibration is not None:
            percentiles = calibration.percentiles([match.score for match in matches])
        return [
            _hit(rank, match, percentile)
            for rank, (match, percentile) in enumerate(zip(matches, percentiles, strict=True), first_rank)
        ]

    def _feature(self, search: TakenSearch) -> Feature:
        query = search.record.query
        if query.after is not None:
            return restored(search.feature, self.store.spec.fingerprint)
        uploads = search.uploads or ()
        if len(uploads) != sum(picture.image_id is None for picture in query.pictures):
            raise UploadExpired
        if len(uploads) < len(query.pictures):
            self.store.keep_up()
        decoders = self._decoders(query, uploads)
        embedded = iter(self._embedded([decode for decode in decoders if decode is not None]))
        features = [
            self._stored(picture) if decode is None else next(embedded)
            for picture, decode in zip(query.pictures, decoders, strict=True)
        ]
        return combined(features, [picture.weight for picture in query.pictures])

    def _decoders(self, query: SearchQuery, uploads: Sequence[bytes]) -> list[Callable[[], Pixels] | None]:
        """For each picture what gives its pixels, or None where the stored feature is enough."""
        waiting = iter(uploads)
        found: list[Callable[[], Pixels] | None] = []
        for picture in query.pictures:
            if picture.image_id is None:
                found.append(partial(_pixels, self.uploads, next(waiting), query.crop))
            elif query.crop is not None:
                entry = self.store.entry(picture.image_id)
                found.append(partial(self._file_pixels, entry, query.crop))
            else:
                found.append(None)
        return found

    def _stored(self, picture: QueryImage) -> Feature:
        return normalised(self.store.feature(self.store.entry(cast(str, picture.image_id))))

    def _embedded(self, decoders: Sequence[Callable[[], Pixels]]) -> list[Feature]:
        def decode() -> list[Pixels]:
            pixels = _in_threads(decoders)
            lap("decode")
            return pixels

        if not decoders:
            return []
        features = self.embedder.embed_all(decode)
        lap("embed")
        return features

    def _file_pixels(self, entry: CatalogEntry, crop: Crop) -> Pixels:
        return _pixels(self.files, self._read(entry), crop)

    def _read(self, entry: CatalogEntry) -> bytes:
        try:
            return self.library.resolve(Location(entry.record.root, entry.record.path)).read_bytes()
        except OSError as error:
            raise UnreadableFile(f"{entry.path} cannot be read: {error.strerror}") from error


def _pixels(decoder: PictureDecoder, image: bytes, crop: Crop | None) -> Pixels:
    return decoder.decode(image, crop, thumbnail=False).pixels


def _in_threads(decoders: Sequence[Callable[[], Pixels]]) -> list[Pixels]:
    """What each gives, decoded at the same time; one alone in this thread."""
    if len(decoders) == 1:
        return [decoders[0]()]
    with ThreadPoolExecutor(min(len(decoders), _DECODERS), thread_name_prefix="decode") as pool:
        return [future.result() for future in [pool.submit(decode) for decode in decoders]]


def _hit(rank: int, match: Match, percentile: float | None) -> SearchHit:
    record = match.entry.record
    return SearchHit(
        image_id=match.entry.image_id,
        path=match.entry.path,
        width=record.width,
        height=record.height,
        rank=rank,
        score=match.score,
        distance=match.distance,
        percentile=percentile,
        content_hash=record.content_hash.hex(),
    )
