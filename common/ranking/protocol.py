"""What every ranking back end offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.store import CatalogEntry

Query = npt.NDArray[np.float32]


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
