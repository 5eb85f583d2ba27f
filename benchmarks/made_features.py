"""Features for measurements of ranking: made up with a spectrum like that of real ones, or those of real photos.

Random features will not do: they are all equally far from each other, and no index finds the nearest of them. Here
each image lies near the centre of a cluster in a space of few dimensions, as pictures of a subject do, and goes
through a random layer with a ReLU, as in the network: not negative, partly zero, most of the variance in some
directions, and noise in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.measuring import cores
from common.models import ModelSpec

Halves = npt.NDArray[np.float16]
Singles = npt.NDArray[np.float32]

DIMENSION = 4096
# Rows of a block: its seed is its number, so that blocks can be made in any order.
BLOCK_ROWS = 4096
_LATENT = 192
_CLUSTERS = 2000
_WITHIN_CLUSTER = 0.7
_NOISE = 0.25


class Source(Protocol):
    """Where the features of a collection come from."""

    @property
    def name(self) -> str:
        """Names the collection, as a file name."""
        ...

    @property
    def count(self) -> int:
        """How many images the collection has."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """The model that they are said to come from."""
        ...

    def rows(self, start: int, end: int) -> Halves:
        """The features of the images `start` to `end`; `start` is a multiple of `BLOCK_ROWS`."""
        ...

    def held_out(self, count: int) -> Singles:
        """Features of the same distribution that no image of the collection has; L2-normalised."""
        ...


class MadeFeatures:
    """Made up features. The same count gives the same ones on every machine of the same kind.

    Args:
        count: How many images the collection has.
        dimension: Values of a feature.
    """

    def __init__(self, count: int, dimension: int = DIMENSION) -> None:
        self.name = f"made-{dimension}-{count}"
        self.count = count
        self.spec = _made_spec(dimension)
        rng = np.random.default_rng(5)
        spectrum = np.arange(1, _LATENT + 1, dtype=np.float32) ** -0.5
        self._spectrum = spectrum / np.linalg.norm(spectrum)
        self._centres = rng.standard_normal((_CLUSTERS, _LATENT), dtype=np.float32) * self._spectrum
        self._layer = rng.standard_normal((_LATENT, dimension), dtype=np.float32)
        self._bias = (-0.6 + 0.4 * rng.standard_normal(dimension)).astype(np.float32)

    def rows(self, start: int, end: int) -> Halves:
        """See `Source.rows`."""
        features = np.empty((end - start, self.spec.dimension), np.float16)

        def fill(first: int) -> None:
            part = features[first - start : first - start + BLOCK_ROWS]
            part[:] = self._block(len(part), (1, first // BLOCK_ROWS))

        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(fill, range(start, end, BLOCK_ROWS)))
        return features

    def held_out(self, count: int) -> Singles:
        """See `Source.held_out`."""
        return self._block(count, (2, 0))

    def more(self, count: int, batch: int) -> Singles:
        """Features of images to add: neither those of the collection nor the held out ones."""
        return self._block(count, (3, batch))

    def _block(self, count: int, seed: tuple[int, int]) -> Singles:
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((count, self.spec.dimension), dtype=np.float32)
        features *= _NOISE
        latent = rng.standard_normal((count, _LATENT), dtype=np.float32) * (_WITHIN_CLUSTER * self._spectrum)
        latent += self._centres[rng.integers(0, _CLUSTERS, count)]
        features += latent @ self._layer
        features += self._bias
        np.maximum(features, 0, out=features)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return features


@dataclass(frozen=True)
class PhotoFeatures:
    """Features of real photos, as `benchmarks.photo_features` wrote them into a folder."""

    name: str
    spec: ModelSpec
    features: Halves
    queries: Singles

    @classmethod
    def load(cls, folder: Path) -> PhotoFeatures:
        """Reads them.

        Raises:
            FileNotFoundError: They have not been made.
        """
        spec = ModelSpec.model_validate_json((folder / "spec.json").read_bytes())
        features = np.load(folder / "features.npy", mmap_mode="r")
        return cls(folder.name, spec, features, np.load(folder / "queries.npy"))

    @property
    def count(self) -> int:
        """How many images the collection has."""
        return len(self.features)

    def rows(self, start: int, end: int) -> Halves:
        """See `Source.rows`."""
        return np.array(self.features[start:end])

    def held_out(self, count: int) -> Singles:
        """See `Source.held_out`.

        Raises:
            ValueError: Fewer were made.
        """
        if count > len(self.queries):
            raise ValueError(f"{count} features wanted, {len(self.queries)} held out")
        return self.queries[:count]


def blocks(count: int, rows: int = BLOCK_ROWS) -> Iterator[slice]:
    """Cuts so many rows into blocks."""
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def _made_spec(dimension: int) -> ModelSpec:
    return ModelSpec(
        architecture="made",
        layer="relu",
        weights_sha256="0" * 64,
        preprocessing="none",
        dimension=dimension,
        input_size=(1, 1),
        trained=False,
    )
