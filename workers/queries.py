"""What a search compares with the stored features: that of one picture, or of several together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import PageExpired, QueryCancelled
from common.searches import QueryFeature

Feature = npt.NDArray[np.float32]

# Pictures whose weighted sum keeps less than this part of their weights cancel each other out: what is left is
# rounding, or the difference of two versions of the same picture.
_VANISHED = 0.01
_STORED_TYPE = np.dtype("<f4")


def combined(features: Sequence[Feature], weights: Sequence[float]) -> Feature:
    """The weighted sum of L2-normalised features, normalised again (Rocchio 1971).

    A negative weight moves the query away from what its picture shows. A single feature is the query as it is.

    Raises:
        QueryCancelled: Nothing is left of the sum.
    """
    if len(features) == 1:
        return features[0]
    total = np.asarray(weights, np.float64) @ np.stack(features).astype(np.float64)
    if np.linalg.norm(total) < _VANISHED * np.abs(weights).sum():
        raise QueryCancelled
    return normalised(total)


def normalised(feature: npt.NDArray[np.floating[Any]]) -> Feature:
    """A feature with length 1; one that is all zero stays so."""
    exact = feature.astype(np.float32)
    norm = float(np.linalg.norm(exact))
    return exact / norm if norm > 0 else exact


def kept(feature: Feature, fingerprint: str) -> QueryFeature:
    """The feature as it is kept for the next pages."""
    return QueryFeature(fingerprint, feature.astype(_STORED_TYPE).tobytes())


def restored(feature: QueryFeature | None, fingerprint: str) -> Feature:
    """The feature of the first page.

    Raises:
        PageExpired: It has expired, or is that of another model.
    """
    if feature is None:
        raise PageExpired
    if feature.fingerprint != fingerprint:
        raise PageExpired("The model has changed since the first page of this search: search again.")
    return np.frombuffer(feature.data, _STORED_TYPE).astype(np.float32)
