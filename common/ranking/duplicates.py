"""Groups of near-duplicates in a whole collection, without comparing all pairs.

Images of the same content are found by their hash. Of each different content one feature is reduced to its principal
components: such a projection never makes a distance longer, so two similar features stay close, and the reduced ones
are enough to find the pairs that may be similar. These come from an inverted file of FAISS, and each one is then
verified with the stored features. Groups are the connected components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import StoreError
from common.ranking.components import Components
from common.ranking.protocol import Rows
from common.store import FeatureStore, Segment

# To reduce well a small sample is enough; for 4,096 values it takes 350 MB.
_SAMPLE = 10_000
# With so many near neighbours each image is compared.
_NEIGHBOURS = 32
# So many stand for a group in which there are more.
_FEW = 4
# Cells of the inverted file that are searched for each image.
_PROBES = 8
_LARGEST_CELLS = 8192
# FAISS wants so many points for each cell it learns.
_POINTS_PER_CELL = 40
# What half precision and eight bits a value may change of the distance of two reduced features.
_ROUNDING = 0.03
_BLOCK_ROWS = 4096
_BLOCK_PAIRS = 2048
_ATTEMPTS = 3

Features = npt.NDArray[np.float16]
Singles = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are connected by similar pairs.

    Attributes:
        image_ids: The images, in the order of their places in the store.
        lowest: The lowest score of the pairs that connect them.
        best: The highest one.
    """

    image_ids: list[str]
    lowest: float
    best: float


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The live images in the order of their places: segment after segment, row after row."""

    segments: list[Segment]
    segment: npt.NDArray[np.int32]
    row: Rows
    image_ids: npt.NDArray[np.uint8]
    contents: npt.NDArray[np.bytes_]

    def features(self, positions: Rows) -> Features:
        """The stored features of some images."""
        found = np.empty((len(positions), self.segments[0].dimension), np.float16)
        for number in np.unique(self.segment[positions]):
            here = self.segment[positions] == number
            found[here] = self.segments[number].features[self.row[positions[here]]]
        return found


def find_groups(
    store: FeatureStore, min_score: float, *, folder: str | None = None, progress: Progress = lambda done, total: None
) -> list[Group]:
    """Groups of images that are the same or nearly the same, the largest first.

    Args:
        store: The images.
        min_score: Images with at least this cosine similarity belong together.
        folder: A public path: only images at any depth below it.
        progress: Is told how many images of how many were compared.

    Returns:
        Groups of at least two images. Of a million images a few similar pairs may be missed.

    Raises:
        StoreError: The store changed again and again under the search.
    """
    rows = _read_rows(store, folder)
    total = len(rows.row)
    progress(0, total)
    groups = Components(total)
    distinct = _join_contents(rows, groups)
    if len(distinct) > 1:
        done = total - len(distinct)
        _Pairs(rows, distinct, min_score, groups).compare(lambda compared: progress(done + compared, total))
    progress(total, total)
    found = [
        Group([rows.image_ids[member].tobytes().hex() for member in members], groups.lowest[root], groups.best[root])
        for root, members in groups.larger_than_one()
    ]
    return sorted(found, key=lambda group: (-len(group.image_ids), -group.best, group.image_ids))


def _read_rows(store: FeatureStore, folder: str | None) -> _Rows:
    for _ in range(_ATTEMPTS):
        store.refresh()
        generation = store.catalog.generation
        known = store.catalog.segments()
        try:
            segments = [store.segment(segment.name) for segment in known]
        except FileNotFoundError:
            continue  # compacted away since
        rows = _collect(store, folder, segments, {segment.id: number for number, segment in enumerate(known)})
        if store.catalog.generation == generation:
            return rows
    raise StoreError("The feature store changes too fast to look for duplicates: try again later.")


def _collect(store: FeatureStore, folder: str | None, segments: list[Segment], numbers: dict[int, int]) -> _Rows:
    places: list[tuple[int, int]] = []
    image_ids, contents = bytearray(), bytearray()
    for entry in store.catalog.below(folder):
        places.append((numbers.get(entry.segment_id, -1), entry.row))
        image_ids += bytes.fromhex(entry.image_id)
        contents += entry.record.content_hash
    segment, row = np.array(places, np.int64).reshape(-1, 2).T
    order = np.lexsort((row, segment))
    return _Rows(
        segments,
        segment[order].astype(np.int32),
        row[order],
        np.frombuffer(image_ids, np.uint8).reshape(-1, 16)[order],
        np.frombuffer(contents, "S32")[order],
    )


def _join_contents(rows: _Rows, groups: Components) -> Rows:
    """Joins images of the same content. Gives one image of each content."""
    _, first, content = np.unique(rows.contents, return_index=True, return_inverse=True)
    representative = first[content]
    for position in np.flatnonzero(representative != np.arange(len(representative))):
        groups.join(int(representative[position]), int(position), 1.0)
    return np.sort(first).astype(np.int64)


class _Pairs:
    """Finds the similar pairs among images of different contents."""

    def __init__(self, rows: _Rows, distinct: Rows, min_score: float, groups: Components) -> None:
        from common.ranking.basis import Basis

        self._rows = rows
        self._distinct = distinct
        self._groups = groups
        # Rounding: the same feature twice may score a little less than 1.
        self._min_score = min_score - 1e-6
        self._radius = float(np.sqrt(2 - 2 * min_score)) + _ROUNDING
        self._random = np.random.default_rng(0)
        self._basis = Basis.train(rows.features(self._sample(_SAMPLE)), images=len(distinct))

    def compare(self, progress: Callable[[int], None]) -> None:
        """Joins what belongs together."""
        index = self._index()
        crowded = []
        for start in range(0, len(self._distinct), _BLOCK_ROWS):
            block = self._distinct[start : start + _BLOCK_ROWS]
            crowded.append(block[self._join_neighbours(index, block)])
            progress(start + len(block))
        self._join_crowds(np.concatenate(crowded))

    def _join_neighbours(self, index: Any, block: Rows, indexed: Rows | None = None) -> npt.NDArray[np.bool_]:
        """Joins the images of a block with their neighbours. Says which have more of them than were looked at."""
        distances, places = index.search(self._reduced(block), _NEIGHBOURS)
        # A place that FAISS leaves empty is -1, at an infinite distance.
        near = distances <= self._radius**2
        neighbours = np.where(near, places if indexed is None else indexed[places], -1)
        query, place = np.nonzero(near & (neighbours != block[:, np.newaxis]))
        nearest_first = np.argsort(distances[query, place], kind="stable")
        query, place = query[nearest_first], place[nearest_first]
        self._verify(np.column_stack([block[query], neighbours[query, place]]))
        full: npt.NDArray[np.bool_] = near.all(axis=1)
        return full

    def _join_crowds(self, crowded: Rows) -> None:
        """Joins groups of images that have so many neighbours that not all were looked at.

        Such as a thousand pictures that are all black: each finds some of the others, but not all the same ones. A few
        of each group stand for it, and are compared with those of the other groups, until no groups are joined.
        """
        import faiss

        groups = 0
        while True:
            members: dict[int, list[int]] = {}
            for member in self._random.permutation(crowded).tolist():
                few = members.setdefault(self._groups.root(member), [])
                if len(few) < _FEW:
                    few.append(member)
            if len(members) in (0, 1, groups):
                return
            groups = len(members)
            standing = np.sort(np.array([member for few in members.values() for member in few], np.int64))
            index = faiss.IndexFlatL2(self._basis.dimension)
            index.add(self._reduced(standing))
            for start in range(0, len(standing), _BLOCK_ROWS):
                self._join_neighbours(index, standing[start : start + _BLOCK_ROWS], standing)

    def _index(self) -> Any:
        import faiss

        count = len(self._distinct)
        cells = max(1, min(int(4 * count**0.5), _LARGEST_CELLS, count // _POINTS_PER_CELL))
        quantiser = faiss.IndexFlatL2(self._basis.dimension)
        index: Any = faiss.IndexIVFScalarQuantizer(
            quantiser, self._basis.dimension, cells, faiss.ScalarQuantizer.QT_8bit
        )
        index.nprobe = _PROBES
        index.train(self._reduced(self._sample(cells * _POINTS_PER_CELL)))
        for start in range(0, count, _BLOCK_ROWS):
            block = self._distinct[start : start + _BLOCK_ROWS]
            index.add_with_ids(self._reduced(block), block)
        return index

    def _sample(self, count: int) -> Rows:
        if count >= len(self._distinct):
            return self._distinct
        return np.sort(self._random.choice(self._distinct, count, replace=False))

    def _reduced(self, positions: Rows) -> Singles:
        reduced = np.empty((len(positions), self._basis.dimension), np.float32)
        for start in range(0, len(positions), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            reduced[rows] = self._basis.project(self._rows.features(positions[rows]))
        return reduced

    def _verify(self, pairs: npt.NDArray[np.int64]) -> None:
        """Joins the pairs, nearest first, that are as similar as they have to be."""
        for start in range(0, len(pairs), _BLOCK_PAIRS):
            # What is connected already needs no more pairs.
            block = [(a, b) for a, b in pairs[start : start + _BLOCK_PAIRS].tolist() if not self._groups.same(a, b)]
            for (first, second), score in zip(block, self._scores(np.array(block, np.int64)), strict=True):
                if score >= self._min_score:
                    self._groups.join(first, second, min(float(score), 1.0))

    def _scores(self, pairs: npt.NDArray[np.int64]) -> Singles:
        if not len(pairs):
            return np.zeros(0, np.float32)
        first, second = (self._rows.features(pairs[:, side]).astype(np.float32) for side in (0, 1))
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        products: Singles = np.einsum("ij,ij->i", first, second)
        # A feature that is all zero is similar to nothing.
        scores: Singles = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        return scores
