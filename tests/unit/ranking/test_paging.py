"""Pages of a ranking while the collection changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from common.messages import SearchPosition
from common.ranking import ExactRanker, Match, paging
from common.ranking.paging import ranked_page
from common.store import FeatureStore, Tombstone
from tests.unit.helpers import SPEC, Vector, make_store, publish, record, unit_vectors

QUERY = unit_vectors(1, seed=99)[0]


def add(store: FeatureStore, name: str, paths: Sequence[str], features: Vector) -> None:
    """Publishes images with given features."""
    rows = [record(path) for path in paths]
    store.publish(name, precision="float32", records=rows, features=features, thumbnails=[b""] * len(rows))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A store of 200 images, a quarter of them with the feature of another one."""
    store = make_store(tmp_path)
    features = unit_vectors(200)
    features[150:] = features[:50]
    add(store, "first", [f"photos/{number:03}.jpg" for number in range(200)], features)
    return store


def position(match: Match, rank: int) -> SearchPosition:
    """Where a page ended, after a way through JSON."""
    after = SearchPosition(search_id="x", rank=rank, score=match.score, path=match.entry.path)
    return SearchPosition.model_validate_json(after.model_dump_json())


def read_all(store: FeatureStore, size: int, query: Vector = QUERY, **options: object) -> list[str]:
    """The paths of all pages, with a new ranker for each as if another host had answered."""
    paths: list[str] = []
    after, more = None, True
    while more:
        matches, more = ranked_page(ExactRanker(store), query, size, after=after, **options)  # type: ignore[arg-type]
        paths += [match.entry.path for match in matches]
        after = position(matches[-1], len(paths)) if matches else None
    return paths


def ranking(store: FeatureStore, k: int = 1000, query: Vector = QUERY, **options: object) -> list[str]:
    return [match.entry.path for match in ExactRanker(store).search(query, k, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 7, 100, 199, 200, 201])
def test_the_pages_together_are_the_ranking(store: FeatureStore, size: int) -> None:
    assert read_all(store, size) == ranking(store)


def test_the_options_hold_on_all_pages(store: FeatureStore) -> None:
    add(store, "more", [f"photos/sub/{number}.jpg" for number in range(30)], unit_vectors(30, seed=5))
    assert read_all(store, 4, folder="photos/sub") == ranking(store, folder="photos/sub")
    assert read_all(store, 4, min_score=0.2) == ranking(store, min_score=0.2)
    assert len(ranking(store, min_score=0.2)) in range(10, 200)


def test_equal_scores_are_paged_by_path(store: FeatureStore) -> None:
    assert read_all(store, 9, query=np.zeros(SPEC.dimension, np.float32)) == sorted(ranking(store))


def test_an_empty_collection_has_one_empty_page(tmp_path: Path) -> None:
    assert ranked_page(ExactRanker(make_store(tmp_path)), QUERY, 10) == ([], False)


def test_what_is_added_before_the_position_repeats_nothing(store: FeatureStore) -> None:
    expected = ranking(store)
    first, more = ranked_page(ExactRanker(store), QUERY, 30)
    assert more
    # More than any page asks for in reserve, all better than everything.
    better = QUERY + 0.001 * unit_vectors(400, seed=3)
    add(store, "added", [f"photos/new/{number}.jpg" for number in range(400)], better)
    second, more = ranked_page(ExactRanker(store), QUERY, 30, after=position(first[-1], 30))
    assert more
    assert [match.entry.path for match in second] == expected[30:60]


def test_what_is_removed_before_the_position_skips_nothing(store: FeatureStore) -> None:
    expected = ranking(store)
    first, _ = ranked_page(ExactRanker(store), QUERY, 30)
    publish(store, "removed", tombstones=dict.fromkeys(expected[:30], 2))
    second, _ = ranked_page(ExactRanker(store), QUERY, 30, after=position(first[-1], 30))
    assert [match.entry.path for match in second] == expected[30:60]


def test_what_is_added_behind_the_position_is_found(store: FeatureStore) -> None:
    first, _ = ranked_page(ExactRanker(store), QUERY, 30)
    add(store, "added", ["photos/opposite.jpg"], -QUERY[np.newaxis])
    rest, more = ranked_page(ExactRanker(store), QUERY, 1000, after=position(first[-1], 30))
    assert (len(rest), more, rest[-1].entry.path) == (171, False, "photos/opposite.jpg")


def test_the_last_result_is_not_repeated_if_its_score_differs_in_the_last_bit(store: FeatureStore) -> None:
    first, _ = ranked_page(ExactRanker(store), QUERY, 30)
    last = position(first[-1], 30)
    above = last.model_copy(update={"score": np.nextafter(last.score, 1)})
    second, _ = ranked_page(ExactRanker(store), QUERY, 30, after=above)
    assert [match.entry.path for match in second] == ranking(store)[30:60]


def test_pages_end_at_the_greatest_depth(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_DEPTH", 50)
    assert read_all(store, 20) == ranking(store)[:50]
    assert ranked_page(ExactRanker(store), QUERY, 5, after=position(ExactRanker(store).search(QUERY, 50)[-1], 50)) == (
        [],
        False,
    )


def test_tombstones_of_everything_end_the_pages(store: FeatureStore) -> None:
    first, _ = ranked_page(ExactRanker(store), QUERY, 30)
    gone = [Tombstone(path, 2) for path in ranking(store)]
    store.publish("gone", precision="float32", tombstones=gone)
    assert ranked_page(ExactRanker(store), QUERY, 30, after=position(first[-1], 30)) == ([], False)
