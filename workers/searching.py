"""Answers a search: decode, embed together with what else is waiting, rank."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from common.error_status import status_of
from common.errors import ImageSearchError, StoreUnreadable, UnreadableFile, UploadExpired, kind_of
from common.images import PictureDecoder, Pixels
from common.library import Library, Location
from common.messages import Crop, QueryImage, SearchHit, SearchQuery, SearchRecord, SearchResult
from common.ranking import Match, Ranker
from common.ranking.calibration import Calibrator
from common.ranking.paging import ranked_page
from common.searches import QueryFeature, TakenSearch
from common.stopwatch import StopWatch, lap, milliseconds_since
from common.store import CatalogEntry, FeatureStore
from workers.micro_batches import MicroBatcher
from workers.queries import Feature, combined, kept, normalised, restored

logger = logging.getLogger(__name__)

# A search of many pictures must not take all cores from the others.
_DECODERS = 4


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
