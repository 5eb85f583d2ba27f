"""Candidates from FAISS: a flat scan of codes of a few bytes an image, a millisecond a million.

The codes belong to segments, as in Lucene: they are made when a segment appears and forgotten with it, so there is no
index of everything that would have to be rebuilt. In memory, all codes are packed into one FastScan index (André,
Kermarrec and Le Scouarnec 2017; FAISS 2020), which takes 60 ms a million and is repeated whenever segments came or
went: a search never sees one that is being changed.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.ranking.basis import CENTROIDS, Basis, product_quantiser
from common.ranking.codes import SUFFIX, Codes, SegmentCodes, codes_of
from common.ranking.protocol import Query, Rows
from common.store import Segment

# Where a folder holds a smaller part of all rows, its codes are packed for this search alone.
_LEAST_PART = 1 / 16
# How many more candidates than the folder's part asks for: images of a folder resemble each other.
_MARGIN = 2
# Codes younger than that may be of a segment that another process has seen before this one.
_STALE_SECONDS = 3600


class FaissCandidates:
    """Finds candidates with FAISS. See `CandidateIndex`.

    Args:
        basis: How features are encoded.
        folder: A local folder for this basis's codes, which the processes of the host share.
    """

    def __init__(self, basis: Basis, folder: Path) -> None:
        self.basis = basis
        self._folder = folder
        self._segments: dict[str, SegmentCodes] = {}
        self._changing = threading.Lock()
        self._packing = threading.Lock()
        self._is_packed = True
        self._pack = _Pack(basis, {})

    def add(self, segment: Segment) -> None:
        """See `CandidateIndex.add`.

        Raises:
            FileNotFoundError: The segment is gone.
            SegmentDamaged: Its records cannot be read.
        """
        if segment.name in self._segments:
            return
        codes = codes_of(segment, self.basis, self._folder)
        with self._changing:
            self._segments[segment.name] = codes
            self._is_packed = False

    def remove(self, name: str) -> None:
        """See `CandidateIndex.remove`."""
        with self._changing:
            if self._segments.pop(name, None) is not None:
                self._is_packed = False
        (self._folder / f"{name}{SUFFIX}").unlink(missing_ok=True)

    def names(self) -> set[str]:
        """See `CandidateIndex.names`: those that a search from now on covers."""
        return set(self._current().names)

    def count(self) -> int:
        """See `CandidateIndex.count`."""
        return len(self._current().folder_of)

    def search(self, query: Query, k: int, *, folder: str | None = None) -> dict[str, Rows]:
        """See `CandidateIndex.search`."""
        pack = self._current()
        reduced = self.basis.query(query)
        return pack.by_segment(pack.best(reduced, k) if folder is None else pack.best_below(reduced, k, folder))

    def snapshot(self) -> None:
        """See `CandidateIndex.snapshot`. Codes are saved when they are made; what is left is to pack them.

        Also deletes files that no known segment has used for a while: a process that knew it was stopped meanwhile.
        """
        known = set(self._current().names) | set(self._segments)
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):
                if path.name.removesuffix(SUFFIX) not in known and time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()

    def _current(self) -> _Pack:
        """All codes, packed. While another thread packs, those from before, which `names` then tells as well."""
        if not self._is_packed and self._packing.acquire(blocking=not self._pack.names):
            try:
                with self._changing:
                    segments, self._is_packed = dict(self._segments), True
                self._pack = _Pack(self.basis, segments)
            except BaseException:
                self._is_packed = False
                raise
            finally:
                self._packing.release()
        return self._pack


@dataclass(frozen=True, slots=True)
class _Range:
    """The numbers of the folders at and below a folder, among all in the order of their names."""

    itself: int
    first: int
    end: int

    def holds(self, numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        held: npt.NDArray[np.bool_] = ((numbers >= self.first) & (numbers < self.end)) | (numbers == self.itself)
        return held


class _Pack:
    """Some segments' codes, packed; never changed. Rows are counted through, segment by segment."""

    def __init__(self, basis: Basis, segments: dict[str, SegmentCodes]) -> None:
        self._basis = basis
        self.names = list(segments)
        parts = list(segments.values())
        self._starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        self._codes: Codes = _joined([part.codes for part in parts], (0, basis.code_bytes), np.uint8)
        self._folders = sorted({folder for part in parts for folder in part.folders})
        numbers = {folder: number for number, folder in enumerate(self._folders)}
        translated = (
            np.array([numbers[folder] for folder in part.folders], np.int32)[part.folder_of]
            for part in parts
            if len(part)
        )
        self.folder_of: npt.NDArray[np.int32] = _joined(translated, (0,), np.int32)
        self._index = _fast_scan(basis, self._codes)

    def best(self, query: Query, k: int) -> Rows:
        """The numbers of the `k` rows whose codes are nearest to a reduced query."""
        return _search(self._index, query, k)

    def best_below(self, query: Query, k: int, folder: str) -> Rows:
        """The same among the rows of a folder, at any depth."""
        wanted = self._range(folder)
        rows = np.flatnonzero(wanted.holds(self.folder_of))
        if len(rows) <= k:
            return rows
        if len(rows) >= _LEAST_PART * len(self.folder_of):
            found = self.best(query, _MARGIN * k * len(self.folder_of) // len(rows))
            found = found[wanted.holds(self.folder_of[found])]
            if len(found) >= k:
                return found[:k]
        return rows[_search(_fast_scan(self._basis, self._codes[rows]), query, k)]

    def by_segment(self, rows: Rows) -> dict[str, Rows]:
        """Numbers of rows as rows of segments, ascending."""
        rows = np.sort(rows)
        segments = np.searchsorted(self._starts, rows, side="right") - 1
        present, firsts = np.unique(segments, return_index=True)
        parts = np.split(rows, firsts[1:]) if len(present) else []
        return {self.names[segment]: part - self._starts[segment] for segment, part in zip(present, parts, strict=True)}

    def _range(self, folder: str) -> _Range:
        # "0" is the character after "/": everything below the folder sorts between the two.
        first, end = bisect_left(self._folders, f"{folder}/"), bisect_left(self._folders, f"{folder}0")
        itself = bisect_left(self._folders, folder)
        is_there = itself < len(self._folders) and self._folders[itself] == folder
        return _Range(itself if is_there else -1, first, end)


def _joined(parts: Iterable[npt.NDArray[Any]], empty: tuple[int, ...], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(empty, kind), *parts])


def _fast_scan(basis: Basis, codes: Codes) -> Any:
    """A FastScan index of codes, in their order."""
    import faiss

    quantiser = product_quantiser(basis.dimension, basis.codebook)
    plain: Any = faiss.IndexPQ(basis.dimension, quantiser.M, CENTROIDS.bit_length() - 1, faiss.METRIC_INNER_PRODUCT)
    plain.pq = quantiser
    plain.is_trained = True
    faiss.copy_array_to_vector(codes.ravel(), plain.codes)
    plain.ntotal = len(codes)
    return faiss.IndexPQFastScan(plain)


def _search(index: Any, query: Query, k: int) -> Rows:
    k = min(k, index.ntotal)
    if k < 1:
        return np.zeros(0, np.int64)
    # One query is searched by the calling thread alone: FAISS would start a pool of threads for each of ours.
    rows: Rows = index.search(query[np.newaxis], k)[1][0]
    return rows[rows >= 0]
