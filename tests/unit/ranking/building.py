"""Stores of realistic features for the tests of ranking in two stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.ranking.basis import Basis
from common.ranking.candidates import FaissCandidates
from common.ranking.protocol import Match, Ranker
from common.store import FeatureStore
from tests.unit.helpers import SPEC, Vector, make_store, record

DIMENSION = 128


def made_features(count: int, seed: int = 0, dimension: int = DIMENSION) -> Vector:
    """Features as a network makes them: clusters of a falling spectrum in few dimensions, after a ReLU, of length 1."""
    common = np.random.default_rng(1)
    rank = dimension // 4
    spectrum = np.arange(1, rank + 1) ** -0.5
    centres = common.normal(size=(50, rank)) * spectrum
    mixing, bias = common.normal(size=(rank, dimension)), 0.4 * common.normal(size=dimension) - 0.6
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(0, len(centres), count)] + 0.7 * rng.normal(size=(count, rank)) * spectrum
    features = np.maximum(points @ mixing + 0.25 * rng.normal(size=(count, dimension)) + bias, 0)
    features += 1e-6  # never all zero
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def open_store(folder: Path, cache: str = "cache") -> FeatureStore:
    """A store of such features; another `cache` is another host's view of it."""
    return make_store(folder, SPEC.model_copy(update={"dimension": DIMENSION}), cache)


def put(store: FeatureStore, name: str, paths: Sequence[str], features: Vector, sequence: int = 1) -> None:
    """Publishes a segment."""
    store.publish(
        name,
        precision="float32",
        records=[record(path, sequence) for path in paths],
        features=features,
        thumbnails=[b""] * len(paths),
    )
    store.refresh()


def index_of(store: FeatureStore, basis: Basis) -> FaissCandidates:
    """An index of everything in the store, as its keeper makes it."""
    index = FaissCandidates(basis, store.cache_path / "candidates" / basis.id)
    for row in store.catalog.segments():
        index.add(store.segment(row.name))
    return index


def answers(ranker: Ranker, queries: Vector, k: int, **filters: str | float) -> list[list[tuple[str, float]]]:
    """Paths and scores, query by query."""
    return [_answer(ranker.search(query, k, **filters)) for query in queries]  # type: ignore[arg-type]


def _answer(matches: list[Match]) -> list[tuple[str, float]]:
    return [(match.entry.path, match.score) for match in matches]
