"""Ranking in two stages: candidates from an index of short codes, then their stored features, exactly."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from common.errors import VectorBackendUnavailable
from common.ranking.bases import TWO_STAGES_FROM
from common.ranking.exact import ExactRanker
from common.ranking.protocol import CandidateIndex, Match, Query, Rows
from common.ranking.scanning import MOST_TIES, ROUNDING, Found, Part, Scanner, exact_match, score
from common.stopwatch import lap
from common.store import CatalogEntry, FeatureStore
from common.store.catalog_rows import SegmentRow

# Measured: with so many candidates at least 997 of 1,000 of the ten best are among them, with half as many 993.
LEAST_CANDIDATES = 400
CANDIDATES_PER_RESULT = 10
# From here on fewer, because each costs the comparison of a feature.
_ENOUGH_CANDIDATES = 1000
_CANDIDATES_PER_FURTHER_RESULT = 4
# Most of the nearest are of removed images, or the folder hides them: look further, and in the end at everything.
_WIDENING = 4
MOST_CANDIDATES = 16_384
_ATTEMPTS = 5
# Rows are looked up in the catalog together: so many more than are wanted, for those that are not live or lie close.
_LOOK_BEYOND = 16
# While the index cannot be reached, larger collections are not compared one by one for each search: half a second.
_EXACT_AT_MOST = 200_000

Observer = Callable[[Query, int, "str | None", "float | None", "list[Match]"], None]
"""Is told each query that was ranked in two stages, with its answer."""


class _Changed(Exception):
    """The catalog changed under a search: a row that is not live may be live elsewhere by now. It is repeated."""


@dataclass(frozen=True, slots=True)
class _Index:
    """An index and the segments that are in it; what is in no index is compared exactly."""

    candidates: CandidateIndex
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class _View:
    """The catalog at one generation: its segments by name, and the live rows of those that had to be scanned."""

    generation: int
    segments: Mapping[str, SegmentRow]
    live: dict[str, Rows]


class TwoStageRanker:
    """Ranks large collections in two stages and small ones exactly. May be used from any thread.

    Nothing depends on the index being up to date: rows of segments that it does not know are compared exactly, and
    what it finds counts only if the catalog says that it is live. Scores are those of `ExactRanker`.

    Args:
        store: What is searched.
        threads: How many threads compare, for all searches together; with one, each search compares in its own.
        candidates: The index, if there is one already.
        two_stages_from: A collection of fewer images is ranked exactly.
        observer: Is told what was asked and answered.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        threads: int = 1,
        candidates: CandidateIndex | None = None,
        two_stages_from: int = TWO_STAGES_FROM,
        observer: Observer | None = None,
    ) -> None:
        self.store = store
        self._observer = observer
        self._exact = ExactRanker(store, threads=threads)
        self._two_stages_from = two_stages_from
        self._scanner = Scanner(threads)
        self._index: _Index | None = None
        self._view = _View(-1, {}, {})
        self._viewing = threading.Lock()
        self.use(candidates)

    def use(self, candidates: CandidateIndex | None) -> None:
        """Searches an index from now on. To be told again when segments were added to it."""
        self._index = None if candidates is None else _Index(candidates, frozenset(candidates.names()))

    @property
    def index_names(self) -> frozenset[str]:
        """The segments that are searched by index; those of others are compared exactly."""
        index = self._index
        return index.names if index is not None else frozenset()

    def search(self, query: Query, k: int, *, folder: str | None = None, min_score: float | None = None) -> list[Match]:
        """See `Ranker.search`.

        Raises:
            StoreError: The store changed again and again under the search.
            VectorBackendUnavailable: The index cannot be reached, and the collection is too large without it.
        """
        index = self._index
        if index is None or not query.any() or len(self.store) < self._two_stages_from:
            return self._exact.search(query, k, folder=folder, min_score=min_score)
        for _ in range(_ATTEMPTS):
            self.store.keep_up()
            try:
                matches = self._search(index, query, k, folder)
            except (FileNotFoundError, _Changed):
                continue  # segments were merged meanwhile
            except VectorBackendUnavailable:
                if len(self.store) > _EXACT_AT_MOST:
                    raise
                break
            if matches is None:
                break
            found = [match for match in matches if min_score is None or match.score >= min_score]
            if self._observer is not None:
                self._observer(query, k, folder, min_score, found)
            return found
        return self._exact.search(query, k, folder=folder, min_score=min_score)

    def _search(self, index: _Index, query: Query, k: int, folder: str | None) -> list[Match] | None:
        """The `k` best; None if the candidates do not hold them."""
        view = self._current_view()
        scanned = self._scanner.best(query, k, self._unknown_parts(view, index, folder))
        wanted = _candidates_for(k)
        while wanted <= MOST_CANDIDATES:
            found = index.candidates.search(query, wanted, folder=folder)
            # Another host may have filled a shared index since: those segments have been scanned.
            found = {name: rows for name, rows in found.items() if name in index.names}
            lap("candidates")
            matches = self._best(view, query, k, self._parts(view, found), scanned)
            if len(matches) >= k or len(matches) >= self._images(folder, k):
                return matches
            wanted *= _WIDENING
        return None

    def _current_view(self) -> _View:
        catalog = self.store.catalog
        with self._viewing:
            if self._view.generation != catalog.generation:
                generation = catalog.generation
                segments = {row.name: row for row in catalog.segments()}
                if generation != catalog.generation:
                    raise _Changed
                self._view = _View(generation, segments, {})
                self._scanner.forget_all_but(segments)
            return self._view

    def _parts(self, view: _View, found: Mapping[str, Rows]) -> list[Part]:
        """What an index found, as far as its segments still count."""
        parts = []
        for name, rows in found.items():
            row = view.segments.get(name)
            if row is not None:
                # A file that was replaced under its name may have fewer rows than the index knows of.
                segment = self.store.segment(name)
                parts.append(Part(row.id, segment, rows[rows < min(row.count, segment.count)]))
        return parts

    def _unknown_parts(self, view: _View, index: _Index, folder: str | None) -> list[Part]:
        """The live rows that are in no index yet."""
        parts = []
        for name in view.segments.keys() - index.names:
            row = view.segments[name]
            if row.count:
                rows = self._live_rows(view, row) if folder is None else self.store.catalog.rows(row.id, folder)
                parts.append(Part(row.id, self.store.segment(name), np.asarray(rows, np.int64)))
        return parts

    def _live_rows(self, view: _View, row: SegmentRow) -> Rows:
        rows = view.live.get(row.name)
        if rows is None:
            rows = view.live[row.name] = np.array(self.store.catalog.rows(row.id), np.int64)
        return rows

    def _best(self, view: _View, query: Query, k: int, parts: list[Part], scanned: Found) -> list[Match]:
        """The `k` best live rows of some parts and of what was scanned."""
        candidates, floor = score(query, parts, k + _LOOK_BEYOND)
        matches = self._live(view, query, k, Found.joined([candidates, scanned]))
        is_certain = floor == -math.inf or (len(matches) >= k and matches[-1].score >= floor)
        if not is_certain:  # too many of those are not live
            candidates, _ = score(query, parts, sum(len(part.rows) for part in parts))
            matches = self._live(view, query, k, Found.joined([candidates, scanned]))
        return matches

    def _live(self, view: _View, query: Query, k: int, found: Found) -> list[Match]:
        """The `k` best of what was found that are live, in their final order."""
        names = {row.id: row.name for row in view.segments.values()}
        exact_query = query.astype(np.float64)
        matches: list[Match] = []
        last, is_dead = -np.inf, False
        for similarity, entry in self._looked_up(found, k + _LOOK_BEYOND):
            # Those that rounding may have put behind the last one are looked at, too.
            is_behind = len(matches) >= k and not similarity >= last - ROUNDING
            if is_behind or len(matches) >= k + MOST_TIES:
                break
            if entry is None:
                is_dead = True
                continue
            feature = self.store.segment(names[entry.segment_id]).features[entry.row]
            matches.append(exact_match(exact_query, feature, entry))
            if len(matches) == k:
                last = similarity
        if is_dead and self.store.catalog.generation != view.generation:
            raise _Changed
        matches.sort(key=lambda match: (-match.score, match.entry.path))
        return matches[:k]

    def _looked_up(self, found: Found, at_a_time: int) -> Iterator[tuple[float, CatalogEntry | None]]:
        """What was found, best first: the score, and the image if the row is live."""
        order = np.argsort(-found.scores, kind="stable")
        for start in range(0, len(order), at_a_time):
            positions = order[start : start + at_a_time]
            places = [(segment_id, row) for segment_id, row in found.places[positions].tolist()]
            entries = self.store.catalog.by_rows(places)
            for similarity, place in zip(found.scores[positions].tolist(), places, strict=True):
                yield similarity, entries.get(place)

    def _images(self, folder: str | None, k: int) -> int:
        """How many images there are, as far as `k`."""
        return sum(1 for _ in self.store.catalog.below(folder, limit=k))


def _candidates_for(k: int) -> int:
    several = min(CANDIDATES_PER_RESULT * k, _ENOUGH_CANDIDATES)
    return max(LEAST_CANDIDATES, several, _CANDIDATES_PER_FURTHER_RESULT * k)
