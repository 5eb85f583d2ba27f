"""Exact ranking: every live feature is compared with the query. The truth that others are measured against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.errors import StoreError
from common.ranking.protocol import Match, Query
from common.store import CatalogEntry, FeatureStore, Segment

# 8,192 rows of 4,096 float32 values are 128 MiB: large enough for the matrix product, small enough to pass by.
_BLOCK_ROWS = 8192
# What a dot product of 4,096 values in single precision may be off by, with room to spare: between scores this
# close only the one in double precision decides; equal ones are ordered by path.
_ROUNDING = 1e-5
# Of more equal scores than this, any may be shown.
_MOST_TIES = 2000

# Which rows of each segment are live: segment id to name and ascending rows.
_Live = dict[int, tuple[str, npt.NDArray[np.int64]]]


class ExactRanker:
    """Ranks by a scan of the mapped segments. May be used from any thread.

    What it keeps between queries is which rows of each segment are live; that is read anew when the catalog's
    generation changed.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._known: tuple[int, _Live] = (-1, {})
        # Half precision changes a feature's length a little. 4 bytes an image, measured at the first search.
        self._lengths: dict[str, npt.NDArray[np.float32]] = {}

    def search(self, query: Query, k: int, *, folder: str | None = None, min_score: float | None = None) -> list[Match]:
        """See `Ranker.search`.

        Raises:
            StoreError: The store changed again and again under the search.
        """
        for _ in range(3):
            live = self._live()
            try:
                places = self._best(query, k, folder, live) if query.any() else self._first(k, folder)
                matches = [self._match(query, live, segment_id, row) for segment_id, row in places]
            except FileNotFoundError:
                self._known = (-1, {})  # a segment was compacted away under us
                continue
            ranked = [match for match in matches if match is not None]
            if len(ranked) < len(matches):
                self._known = (-1, {})
                continue
            ranked.sort(key=lambda match: (-match.score, match.entry.path))
            return [match for match in ranked[:k] if min_score is None or match.score >= min_score]
        raise StoreError("The feature store changes faster than it can be searched: search again.")

    def _live(self) -> _Live:
        self._store.refresh()
        catalog = self._store.catalog
        known, live = self._known
        while (generation := catalog.generation) != known:
            live = {
                row.id: (row.name, np.array(catalog.rows(row.id), np.int64)) for row in catalog.segments() if row.count
            }
            # Read once more if the catalog changed meanwhile: the parts would not fit each other.
            known = generation
            self._known = (generation, live)
            names = {name for name, _ in live.values()}
            self._lengths = {name: lengths for name, lengths in self._lengths.items() if name in names}
        return live

    def _candidates(self, folder: str | None, live: _Live) -> dict[int, npt.NDArray[np.int64]]:
        if folder is None:
            return {segment_id: rows for segment_id, (_, rows) in live.items()}
        below = self._store.catalog.rows_below(folder)
        return {segment_id: np.array(rows, np.int64) for segment_id, rows in below.items()}

    def _first(self, k: int, folder: str | None) -> list[tuple[int, int]]:
        """The first `k` images by path: what a query of zeros, equally far from all, finds."""
        return [(entry.segment_id, entry.row) for entry in self._store.catalog.below(folder, limit=k)]

    def _best(self, query: Query, k: int, folder: str | None, live: _Live) -> list[tuple[int, int]]:
        """The rows that may be among the `k` best, as (segment id, row): a few more where scores lie close."""
        scores: list[npt.NDArray[np.float32]] = []
        places: list[npt.NDArray[np.int64]] = []
        for segment_id, rows in self._candidates(folder, live).items():
            segment = self._segment(live, segment_id)
            features, lengths = segment.features, self._lengths_of(segment)
            for start in range(0, len(rows), _BLOCK_ROWS):
                block = rows[start : start + _BLOCK_ROWS]
                contiguous = block[-1] - block[0] == len(block) - 1
                part = features[block[0] : block[-1] + 1] if contiguous else features[block]
                similarity = (part.astype(np.float32) @ query) / lengths[block]
                top = _top(similarity, k)
                scores.append(similarity[top])
                places.append(np.column_stack([np.full(len(top), segment_id, np.int64), block[top]]))
        if not scores:
            return []
        everything = np.concatenate(places)
        order = _top(np.concatenate(scores), k)[: k + _MOST_TIES]
        return [(int(segment_id), int(row)) for segment_id, row in everything[order]]

    def _lengths_of(self, segment: Segment) -> npt.NDArray[np.float32]:
        """The length of each stored feature of a segment, (n) float32; 1 for one that is all zero."""
        lengths = self._lengths.get(segment.name)
        if lengths is None:
            lengths = np.ones(segment.count, np.float32)
            for start in range(0, segment.count, _BLOCK_ROWS):
                part = segment.features[start : start + _BLOCK_ROWS].astype(np.float32)
                lengths[start : start + len(part)] = np.linalg.norm(part, axis=1)
            lengths[lengths == 0] = 1
            self._lengths[segment.name] = lengths
        return lengths

    def _match(self, query: Query, live: _Live, segment_id: int, row: int) -> Match | None:
        entry = self._store.catalog.by_row(segment_id, row)
        if entry is None:
            return None
        return exact_match(query, self._segment(live, segment_id).features[row], entry)

    def _segment(self, live: _Live, segment_id: int) -> Segment:
        if segment_id not in live:
            raise FileNotFoundError(segment_id)
        return self._store.segment(live[segment_id][0])


def exact_match(query: Query, feature: npt.NDArray[np.float16], entry: CatalogEntry) -> Match:
    """The score and distance of one stored feature, in double precision.

    Rounding to half precision changed its length a little: it is normalised once more.
    """
    stored = feature.astype(np.float64)
    norm = float(np.linalg.norm(stored))
    stored /= norm if norm > 0 else 1.0
    score = float(np.clip(stored @ query, -1.0, 1.0))
    return Match(entry, score, float(np.linalg.norm(stored - query)))


def _top(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Positions of the `k` highest scores and of those that rounding may have put below them, best first."""
    close = np.arange(len(scores))
    if len(scores) > k:
        last = np.partition(scores, len(scores) - k)[len(scores) - k]
        close = np.flatnonzero(scores >= last - _ROUNDING)
    return close[np.argsort(-scores[close], kind="stable")].astype(np.int64)
