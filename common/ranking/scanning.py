"""Comparing many stored features with a query, exactly as far as single precision goes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.ranking import half
from common.ranking.protocol import Match, Query, Rows
from common.store import CatalogEntry, Segment

# What a thread scans at a time: a millisecond's work, so that the threads end together.
_BLOCK_ROWS = 1024
# What a dot product of 4,096 values in single precision may be off by, with room to spare: between scores this
# close only the one in double precision decides; equal ones are ordered by path.
ROUNDING = 1e-5
# A length of 1 is stored with 11 bits a value: 4.9e-4 more or less at most, with room to spare.
_LENGTH_ERROR = 1e-3
# Of more equal scores than this, any may be shown.
MOST_TIES = 2000

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a segment, ascending."""

    segment_id: int
    segment: Segment
    rows: Rows


@dataclass(frozen=True, slots=True)
class Found:
    """Rows with their scores: (n,) float32 each to a row of `places`, (n, 2): segment id and row."""

    scores: Scores
    places: npt.NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Iterable[Found]) -> Found:
        """All rows of several findings."""
        parts = [NOTHING, *parts]
        return cls(np.concatenate([part.scores for part in parts]), np.concatenate([part.places for part in parts]))

    def best(self, k: int) -> Found:
        """The `k` highest scores and those that rounding may have put below them, best first."""
        order = _top(self.scores, k)[: k + MOST_TIES]
        return Found(self.scores[order], self.places[order])


NOTHING = Found(np.zeros(0, np.float32), np.zeros((0, 2), np.int64))


class Scanner:
    """Scores rows of mapped segments. May be used from any thread.

    Args:
        threads: How many threads scan, for all searches together; with one, each search scans in its own.
    """

    def __init__(self, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="scan") if threads > 1 else None
        # Half precision changes a feature's length a little. 4 bytes an image, measured at the first search.
        self._lengths: dict[str, Scores] = {}

    def best(self, query: Query, k: int, parts: Iterable[Part]) -> Found:
        """The rows that may be among the `k` best of all parts, best first: a few more where scores lie close."""
        blocks = [
            Part(part.segment_id, part.segment, part.rows[start : start + _BLOCK_ROWS])
            for part in parts
            for start in range(0, len(part.rows), _BLOCK_ROWS)
        ]

        def scan(block: Part) -> Found:
            return Found(self._similarity(query, block), _places(block)).best(k)

        return Found.joined(self._pool.map(scan, blocks) if self._pool else map(scan, blocks)).best(k)

    def forget_all_but(self, names: Iterable[str]) -> None:
        """Drops what is kept of all segments but those of these names."""
        kept = set(names)
        self._lengths = {name: lengths for name, lengths in self._lengths.items() if name in kept}

    def _similarity(self, query: Query, block: Part) -> Scores:
        features, rows = np.asarray(block.segment.features), block.rows
        first, last = rows[0], rows[-1]
        contiguous = last - first == len(rows) - 1
        chosen = features[first : last + 1] if contiguous else features[rows]
        return half.dot(chosen, query) / self._lengths_of(block.segment)[rows]

    def _lengths_of(self, segment: Segment) -> Scores:
        """The length of each stored feature of a segment, (n) float32; 1 for one that is all zero."""
        lengths = self._lengths.get(segment.name)
        if lengths is None:
            lengths = self._lengths[segment.name] = _lengths(segment.features)
        return lengths


def score(query: Query, parts: Sequence[Part], k: int) -> tuple[Found, float]:
    """Scores the rows of some parts that may be among the `k` best: for few rows of many segments.

    Their products tell which these are, as features of length 1 are stored; only of those the lengths that half
    precision has left are measured, which costs as much as the products.

    Args:
        query: (d,) float32, of length 1.
        parts: The rows.
        k: How many are wanted.

    Returns:
        Those rows, and a score: every row with a higher one is among them.
    """
    if not parts:
        return NOTHING, -math.inf
    features = _gathered(parts)
    segments = np.repeat([part.segment_id for part in parts], [len(part.rows) for part in parts])
    places = np.column_stack([segments, np.concatenate([part.rows for part in parts])])
    products, floor = half.dot(features, query), -math.inf
    if len(products) > k:
        last = np.partition(products, len(products) - k)[len(products) - k]
        chosen = np.flatnonzero(products >= last - 2 * _LENGTH_ERROR)
        features, places, products = features[chosen], places[chosen], products[chosen]
        floor = float(last) - _LENGTH_ERROR
    return Found(products / _lengths(features), places), floor


def _gathered(parts: Sequence[Part]) -> half.Halves:
    """All rows of the parts, copied once: a product for each segment would take longer."""
    gathered = np.empty((sum(len(part.rows) for part in parts), parts[0].segment.features.shape[1]), np.float16)
    start = 0
    for part in parts:
        end = start + len(part.rows)
        # With "raise" NumPy would copy twice.
        np.take(np.asarray(part.segment.features), part.rows, axis=0, out=gathered[start:end], mode="clip")
        start = end
    return gathered


def exact_match(query: npt.NDArray[np.float64], feature: npt.NDArray[np.float16], entry: CatalogEntry) -> Match:
    """The score and distance of one stored feature, in double precision.

    Rounding to half precision changed its length a little: it is normalised once more. One feature at a time, because
    the order of a sum depends on how many there are, and equal features must have equal scores.
    """
    stored = np.asarray(feature).astype(np.float64)
    norm = math.sqrt(stored @ stored)
    if norm > 0:
        stored /= norm
    similarity = float(stored @ query)
    difference = stored - query
    return Match(entry, max(-1.0, min(1.0, similarity)), math.sqrt(difference @ difference))


def _places(part: Part) -> npt.NDArray[np.int64]:
    return np.column_stack([np.full(len(part.rows), part.segment_id), part.rows])


def _lengths(features: half.Halves) -> Scores:
    lengths = half.lengths(features)
    lengths[lengths == 0] = 1
    return lengths


def _top(scores: Scores, k: int) -> Rows:
    """Positions of the `k` highest scores and of those that rounding may have put below them, best first."""
    close = np.arange(len(scores))
    if len(scores) > k:
        last = np.partition(scores, len(scores) - k)[len(scores) - k]
        close = np.flatnonzero(scores >= last - ROUNDING)
    return close[np.argsort(-scores[close], kind="stable")].astype(np.int64)
