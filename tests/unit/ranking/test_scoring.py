"""Scores of a few rows of many segments, in single precision."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from common.ranking import ExactRanker, scanning
from common.ranking.basis import Basis
from common.ranking.scanning import NOTHING, Found, Part, score
from common.ranking.two_stage import TwoStageRanker
from common.store import FeatureStore, Tombstone
from tests.unit.helpers import Vector
from tests.unit.ranking.building import answers, index_of, made_features, open_store, put

COUNT = 600


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    store = open_store(tmp_path_factory.mktemp("store"))
    features = made_features(COUNT)
    for start in range(0, COUNT, 200):
        put(store, f"s{start:03}", [f"p/{row:03}.jpg" for row in range(start, start + 200)], features[start:][:200])
    return store


@pytest.fixture(scope="module")
def parts(store: FeatureStore) -> list[Part]:
    """Every third row."""
    return [
        Part(row.id, store.segment(row.name), np.arange(row.id % 3, row.count, 3, dtype=np.int64))
        for row in store.catalog.segments()
    ]


def true_scores(query: Vector, parts: list[Part]) -> dict[tuple[int, int], float]:
    """The score of each row in double precision."""
    scores = {}
    for part in parts:
        for row in part.rows.tolist():
            stored = np.asarray(part.segment.features[row], np.float64)
            scores[part.segment_id, row] = float(stored @ query / np.linalg.norm(stored))
    return scores


def as_dict(found: Found) -> dict[tuple[int, int], float]:
    places = [(segment_id, row) for segment_id, row in found.places.tolist()]
    return dict(zip(places, found.scores.tolist(), strict=True))


@pytest.mark.parametrize("k", [1, 10, 150, 199, 10_000])
def test_no_row_above_the_floor_is_missing_and_scores_are_right(parts: list[Part], k: int) -> None:
    for query in made_features(20, seed=5):
        truth = true_scores(query, parts)
        found, floor = score(query, parts, k)
        scores = as_dict(found)
        assert len(scores) >= min(k, len(truth))
        assert all(abs(scores[place] - truth[place]) < scanning.ROUNDING for place in scores)
        assert {place for place, value in truth.items() if value > floor} <= scores.keys()
        best = sorted(truth, key=truth.__getitem__, reverse=True)[:k]
        assert set(best) <= scores.keys()
    assert (floor == -math.inf) == (k >= len(truth))


def test_most_rows_are_left_out(parts: list[Part]) -> None:
    query = made_features(1, seed=5)[0]
    found, _ = score(query, parts, 10)
    assert 10 <= len(found.scores) < len(true_scores(query, parts)) / 3


def test_no_parts_have_no_rows() -> None:
    assert score(made_features(1)[0], [], 10) == (NOTHING, -math.inf)


def test_if_the_best_are_gone_the_others_are_found(tmp_path: Path) -> None:
    """All candidates that were chosen by their products may be removed images."""
    store = open_store(tmp_path)
    features = made_features(COUNT)
    query = features[0]
    order = np.argsort(-(features @ query))
    paths = [f"p/{row:03}.jpg" for row in range(COUNT)]
    put(store, "s", paths, features)
    index = index_of(store, Basis.train(features, images=COUNT))
    gone = [Tombstone(paths[row], 2) for row in order[:60]]
    store.publish("gone", precision="float32", tombstones=gone)
    store.refresh()
    ranker = TwoStageRanker(store, candidates=index, two_stages_from=1)
    assert answers(ranker, query[np.newaxis], 10) == answers(ExactRanker(store), query[np.newaxis], 10)
