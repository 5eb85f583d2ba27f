"""The basis of the candidate codes: how a feature becomes a short vector, and that one a few bytes.

It is trained once from a sample of the stored features and never changed: what was encoded with it stays right. It is
published in the store's folder, so that all hosts and back ends share it.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.ranking.checked import DamagedFile, load_arrays, save_arrays

# Measured on features of 4,096 values: with fewer, candidates are missed; more cost time and add nothing.
COMPONENTS = 256
# Values of a reduced vector that share one code of 4 bits: 32 bytes an image for 256 values. Two values a code find
# the same with half the candidates, but a scan of the codes takes four times as long (see docs/architecture.md).
VALUES_PER_CODE = 4
CENTROIDS = 16
# FAISS scans pairs of codes, and a pair is a byte.
_MULTIPLE = 2 * VALUES_PER_CODE
_OVERSAMPLING = 32
_POWER_ITERATIONS = 2
# 2,048 features of 4,096 values are 32 MiB in single precision.
_BLOCK_ROWS = 2048

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """A trained basis of `d` stored values and `m` reduced ones.

    Attributes:
        created_ns: When it was trained; of two bases the later one is meant. Nanoseconds since the epoch.
        images: How many images the collection had then.
        mean: (d,) float32, the mean of the sample.
        matrix: (d, m) float32 with orthonormal columns: principal components, rotated at random so that the codes
            share the variance.
        codebook: (m / 4, 16, 4) float32: the centroids of each code.
    """

    created_ns: int
    images: int
    mean: Singles
    matrix: Singles
    codebook: Singles

    @classmethod
    def train(cls, sample: npt.NDArray[np.floating[Any]], *, images: int, seed: int = 0) -> Basis:
        """Trains a basis.

        The principal components come from a randomised singular value decomposition with power iterations (Halko,
        Martinsson and Tropp 2011), the codes from product quantisation (Jégou, Douze and Schmid 2011) after a random
        rotation. 20,000 features of 4,096 values take some seconds and 700 MB.

        Args:
            sample: (n, d) features, L2-normalised; at least one.
            images: How many images the collection has.
            seed: Of the random numbers: the same sample gives the same basis.
        """
        rng = np.random.default_rng(seed)
        centred = sample.astype(np.float32)
        mean = centred.mean(axis=0)
        centred -= mean
        components = _principal_components(centred, rng)
        width = -(-components.shape[1] // _MULTIPLE) * _MULTIPLE
        rotation = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
        matrix = np.ascontiguousarray(components @ rotation[: components.shape[1]])
        codebook = _train_codebook(centred @ matrix)
        return cls(time.time_ns(), images, mean, matrix, codebook)

    @property
    def id(self) -> str:
        """A name that no other basis has, and that sorts by age."""
        digest = hashlib.sha256(self.matrix.tobytes() + self.codebook.tobytes()).hexdigest()[:8]
        return f"{self.created_ns:020}-{digest}"

    @property
    def dimension(self) -> int:
        """Values of a reduced vector."""
        return int(self.matrix.shape[1])

    @property
    def code_bytes(self) -> int:
        """Bytes of a code."""
        return len(self.codebook) // 2

    def project(self, features: npt.NDArray[np.floating[Any]]) -> Singles:
        """Reduces features, (n, d) of any precision, to (n, m) float32. Their products stand for those of features."""
        reduced = np.empty((len(features), self.dimension), np.float32)
        offset = self.mean @ self.matrix
        for start in range(0, len(features), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            np.matmul(features[rows].astype(np.float32), self.matrix, out=reduced[rows])
            reduced[rows] -= offset
        return reduced

    def query(self, query: Singles) -> Singles:
        """Reduces a query, (d,) float32, to (m,) float32.

        The mean is subtracted here, too, although the products then leave out how similar each feature is to the
        mean: that part varies little, and the error of the codes in that direction would weigh more (measured).
        """
        # Not by BLAS, which wakes a thread for each core: on a busy machine a search waits for them.
        reduced: Singles = np.einsum("i,ij->j", query - self.mean, self.matrix)
        return reduced

    def save(self, path: Path) -> None:
        """Writes the basis as a file, whole or not at all.

        Raises:
            OSError: It cannot be written.
        """
        save_arrays(path, {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Basis:
        """Reads a basis.

        Raises:
            FileNotFoundError: There is no such file.
            DamagedFile: It cannot be used.
        """
        stored = load_arrays(path)
        try:
            basis = cls(
                int(stored["created_ns"]), int(stored["images"]), stored["mean"], stored["matrix"], stored["codebook"]
            )
        except KeyError as error:
            raise DamagedFile(path, f"it lacks {error}") from error
        codes = basis.dimension // VALUES_PER_CODE
        fits = basis.matrix.shape[0] == len(basis.mean) and basis.codebook.shape == (codes, CENTROIDS, VALUES_PER_CODE)
        if not fits:
            raise DamagedFile(path, "its parts do not fit each other")
        return basis


def _principal_components(centred: Singles, rng: np.random.Generator) -> Singles:
    """The directions of largest variance of centred features (n, d), as columns: (d, at most 256)."""
    count = min(COMPONENTS, *centred.shape)
    sketch = min(count + _OVERSAMPLING, *centred.shape)
    projected = centred @ rng.standard_normal((centred.shape[1], sketch), dtype=np.float32)
    for _ in range(_POWER_ITERATIONS):
        orthonormal = np.linalg.qr(projected)[0]
        projected = centred @ (centred.T @ orthonormal)
    orthonormal = np.linalg.qr(projected)[0]
    rows: Singles = np.linalg.svd(orthonormal.T @ centred, full_matrices=False)[2]
    return np.ascontiguousarray(rows[:count].T)


def _train_codebook(reduced: Singles) -> Singles:
    """The centroids of each code: k-means over each four values of reduced vectors (n, m)."""
    import faiss

    # With fewer points than centroids FAISS refuses; repeated ones do no harm.
    repeats = -(-CENTROIDS // len(reduced))
    points = np.ascontiguousarray(np.tile(reduced, (repeats, 1)))
    quantiser = product_quantiser(points.shape[1])
    quantiser.cp.min_points_per_centroid = 1
    quantiser.train(points)
    flat: Singles = faiss.vector_to_array(quantiser.centroids)
    return flat.reshape(-1, CENTROIDS, VALUES_PER_CODE)


def product_quantiser(dimension: int, codebook: Singles | None = None) -> Any:
    """FAISS's product quantiser of vectors of a dimension, with a codebook if it is trained."""
    import faiss

    # For the calling thread. It is fast enough alone, and on a busy machine threads that wait for each other are not.
    faiss.omp_set_num_threads(1)
    quantiser = faiss.ProductQuantizer(dimension, dimension // VALUES_PER_CODE, CENTROIDS.bit_length() - 1)
    if codebook is not None:
        faiss.copy_array_to_vector(np.ascontiguousarray(codebook).ravel(), quantiser.centroids)
    return quantiser
