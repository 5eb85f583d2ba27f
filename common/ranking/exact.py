"""Exact ranking: every live feature is compared with the query. The truth that others are measured against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.errors import StoreError
from common.ranking.protocol import Match, Query, Rows
from common.ranking.scanning import Part, Scanner, exact_match
from common.store import CatalogEntry, FeatureStore, Segment
from common.store.catalog_rows import Place

# Which rows of each segment are live: segment id to name and ascending rows.
_Live = dict[int, tuple[str, Rows]]


class ExactRanker:
    """Ranks by a scan of the mapped segments. May be used from any thread.

    What it keeps between queries is which rows of each segment are live; that is read anew when the catalog's
    generation changed.

    Args:
        store: What is searched.
        threads: How many threads scan, for all searches together; with one, each search scans in its own.
    """

    def __init__(self, store: FeatureStore, *, threads: int = 1) -> None:
        self._store = store
        self._scanner = Scanner(threads)
        self._known: tuple[int, _Live] = (-1, {})

    def search(self, query: Query, k: int, *, folder: str | None = None, min_score: float | None = None) -> list[Match]:
        """See `Ranker.search`.

        Raises:
            StoreError: The store changed again and again under the search.
        """
        exact_query = query.astype(np.float64)
        for _ in range(3):
            live = self._live()
            try:
                places = self._best(query, k, folder, live) if query.any() else self._first(k, folder)
                entries = self._store.catalog.by_rows(places)
                matches = [self._match(exact_query, live, entry) for entry in entries.values()]
            except FileNotFoundError:
                self._known = (-1, {})  # a segment was compacted away under us
                continue
            if len(matches) < len(places):
                self._known = (-1, {})
                continue
            matches.sort(key=lambda match: (-match.score, match.entry.path))
            return [match for match in matches[:k] if min_score is None or match.score >= min_score]
        raise StoreError("The feature store changes faster than it can be searched: search again.")

    def _live(self) -> _Live:
        self._store.keep_up()
        catalog = self._store.catalog
        known, live = self._known
        while (generation := catalog.generation) != known:
            live = {
                row.id: (row.name, np.array(catalog.rows(row.id), np.int64)) for row in catalog.segments() if row.count
            }
            # Read once more if the catalog changed meanwhile: the parts would not fit each other.
            known = generation
            self._known = (generation, live)
            self._scanner.forget_all_but(name for name, _ in live.values())
        return live

    def _candidates(self, folder: str | None, live: _Live) -> dict[int, Rows]:
        if folder is None:
            return {segment_id: rows for segment_id, (_, rows) in live.items()}
        below = self._store.catalog.rows_below(folder)
        return {segment_id: np.array(rows, np.int64) for segment_id, rows in below.items()}

    def _first(self, k: int, folder: str | None) -> list[Place]:
        """The first `k` images by path: what a query of zeros, equally far from all, finds."""
        return [(entry.segment_id, entry.row) for entry in self._store.catalog.below(folder, limit=k)]

    def _best(self, query: Query, k: int, folder: str | None, live: _Live) -> list[Place]:
        """The rows that may be among the `k` best, as (segment id, row): a few more where scores lie close."""
        parts = [
            Part(segment_id, self._segment(live, segment_id), rows)
            for segment_id, rows in self._candidates(folder, live).items()
        ]
        return [(int(segment_id), int(row)) for segment_id, row in self._scanner.best(query, k, parts).places]

    def _match(self, query: npt.NDArray[np.float64], live: _Live, entry: CatalogEntry) -> Match:
        return exact_match(query, self._segment(live, entry.segment_id).features[entry.row], entry)

    def _segment(self, live: _Live, segment_id: int) -> Segment:
        if segment_id not in live:
            raise FileNotFoundError(segment_id)
        return self._store.segment(live[segment_id][0])
