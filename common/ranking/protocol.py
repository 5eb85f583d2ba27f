"""What every ranking back end offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.store import CatalogEntry, Segment

Query = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """A ranked image. `score` is the cosine similarity, `distance` that of the normalised features."""

    entry: CatalogEntry
    score: float
    distance: float


class Ranker(Protocol):
    """Ranks the live images of one store."""

    def search(self, query: Query, k: int, *, folder: str | None = None, min_score: float | None = None) -> list[Match]:
        """The `k` most similar images, best first; ties in the order of their paths.

        Args:
            query: (d,) float32, L2-normalised.
            k: How many at most.
            folder: A public path: only images at any depth below it.
            min_score: Only images with at least this cosine similarity.

        Returns:
            Fewer than `k` if there are not enough; empty for an empty store.
        """
        ...


class CandidateIndex(Protocol):
    """Finds the rows that are probably the most similar ones. Derived from the segments, never the truth.

    It knows rows of segments, not images: a row whose image has been removed or replaced may still be found, and
    whoever asks has to look it up in the catalog. Its scores are not told, because they are approximate.

    One thread may change it while others search.
    """

    def add(self, segment: Segment) -> None:
        """Takes in all rows of a segment. One that is known already changes nothing."""
        ...

    def remove(self, name: str) -> None:
        """Forgets a segment. One that is not known changes nothing."""
        ...

    def names(self) -> set[str]:
        """The segments that were taken in."""
        ...

    def count(self) -> int:
        """How many rows were taken in, live or not."""
        ...

    def search(self, query: Query, k: int, *, folder: str | None = None) -> dict[str, Rows]:
        """About `k` rows that are probably the most similar ones, by segment; fewer if there are fewer.

        Args:
            query: (d,) float32, L2-normalised.
            k: How many.
            folder: A public path: only rows of images at any depth below it.
        """
        ...

    def snapshot(self) -> None:
        """Saves what is not saved yet, so that nothing has to be made anew at the next start."""
        ...
