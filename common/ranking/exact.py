"""Exact ranking: every live feature is compared with the query. The truth that others are measured against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.ranking.protocol import Match, Query
from common.store import CatalogEntry, FeatureStore

# 8,192 rows of 4,096 float32 values are 128 MiB: large enough for the matrix product, small enough to pass by.
_BLOCK_ROWS = 8192


class ExactRanker:
    """Ranks by a scan of the mapped segments.

    What it keeps between queries is which rows of each segment are live; that is read anew when the catalog's
    generation changed.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._generation = -1
        self._live: dict[int, tuple[str, npt.NDArray[np.int64]]] = {}

    def search(self, query: Query, k: int, *, folder: str | None = None, min_score: float | None = None) -> list[Match]:
        """See `Ranker.search`."""
        for _ in range(3):
            self._keep_up()
            try:
                best = self._best(query, k, folder)
                matches = [self._match(query, segment_id, row) for segment_id, row in best]
            except FileNotFoundError:
                self._generation = -1  # a segment was compacted away under us
                continue
            ranked = [match for match in matches if match is not None]
            if len(ranked) < len(matches):
                self._generation = -1
                continue
            ranked.sort(key=lambda match: (-match.score, match.entry.path))
            return [match for match in ranked if min_score is None or match.score >= min_score]
        return []

    def _keep_up(self) -> None:
        self._store.refresh()
        catalog = self._store.catalog
        generation = catalog.generation
        if generation != self._generation:
            self._live = {
                row.id: (row.name, np.array(catalog.rows(row.id), np.int64)) for row in catalog.segments() if row.count
            }
            self._generation = generation

    def _candidates(self, folder: str | None) -> dict[int, npt.NDArray[np.int64]]:
        if folder is None:
            return {segment_id: rows for segment_id, (_, rows) in self._live.items()}
        below = self._store.catalog.rows_below(folder)
        return {segment_id: np.array(rows, np.int64) for segment_id, rows in below.items()}

    def _best(self, query: Query, k: int, folder: str | None) -> list[tuple[int, int]]:
        """The `k` best rows by dot product, as (segment id, row)."""
        scores: list[npt.NDArray[np.float32]] = []
        places: list[npt.NDArray[np.int64]] = []
        for segment_id, rows in self._candidates(folder).items():
            if segment_id not in self._live:
                raise FileNotFoundError(segment_id)
            features = self._store.segment(self._live[segment_id][0]).features
            for start in range(0, len(rows), _BLOCK_ROWS):
                block = rows[start : start + _BLOCK_ROWS]
                contiguous = block[-1] - block[0] == len(block) - 1
                part = features[block[0] : block[-1] + 1] if contiguous else features[block]
                similarity = part.astype(np.float32) @ query
                top = _top(similarity, k)
                scores.append(similarity[top])
                places.append(np.column_stack([np.full(len(top), segment_id, np.int64), block[top]]))
        if not scores:
            return []
        everything = np.concatenate(places)
        order = _top(np.concatenate(scores), k)
        return [(int(segment_id), int(row)) for segment_id, row in everything[order]]

    def _match(self, query: Query, segment_id: int, row: int) -> Match | None:
        entry = self._store.catalog.by_row(segment_id, row)
        if entry is None:
            return None
        feature = self._store.segment(self._live[segment_id][0]).features[row]
        return exact_match(query, feature, entry)


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
    """Positions of the `k` highest scores, in no particular order."""
    if len(scores) <= k:
        return np.arange(len(scores), dtype=np.int64)
    return np.argpartition(scores, len(scores) - k)[len(scores) - k :].astype(np.int64)
