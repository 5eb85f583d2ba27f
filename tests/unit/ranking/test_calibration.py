from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from common.errors import StoreError
from common.ranking import calibration
from common.ranking.calibration import SAMPLE_START, Calibration, Calibrator, measure
from common.store import CatalogEntry, FeatureStore, compact
from common.store.catalog import Catalog
from tests.unit.helpers import SPEC, Vector, make_store, publish, record, unit_vectors


def store_of(folder: Path, features: Vector, contents: Sequence[str] | None = None) -> FeatureStore:
    """A store of some features in two segments."""
    store = make_store(folder, SPEC.model_copy(update={"dimension": features.shape[1]}))
    add(store, "first", features[::2], None if contents is None else contents[::2])
    add(store, "second", features[1::2], None if contents is None else contents[1::2])
    return store


def add(store: FeatureStore, name: str, features: Vector, contents: Sequence[str] | None = None) -> None:
    paths = [f"p/{name}/{row:04}" for row in range(len(features))]
    texts = paths if contents is None else contents
    store.publish(
        name,
        precision="float32",
        records=[record(path, content=text) for path, text in zip(paths, texts, strict=True)],
        features=features,
        thumbnails=[b""] * len(paths),
    )
    store.refresh()


def measured(store: FeatureStore, sample: int = 1000) -> Calibration:
    found = measure(store, sample)
    assert found is not None
    return found


# --- the distribution --------------------------------------------------------------------------------------------


def test_a_percentile_is_the_share_of_pairs_below() -> None:
    known = Calibration.of(np.array([0.3, 0.1, 0.4, 0.2]))
    # Of 4 random pairs and the one that is asked for.
    assert known.percentiles([0.25, 0.35]) == [40, 60]
    assert known.percentiles([0.1, 0.2, 0.3, 0.4]) == [10, 30, 50, 70]
    assert known.percentiles([-1, 0.05]) == [0, 0]
    assert known.percentiles([0.7, 1]) == [90, 100]
    assert known.percentiles([]) == []


def test_the_middle_counts_where_many_pairs_have_the_same_score() -> None:
    known = Calibration.of(np.array([0, 0, 0, 0.5]))
    assert known.percentiles([-0.01, 0, 0.01, 0.49]) == [0, 30, 60, 60]


@pytest.mark.parametrize("count", [1, 7, 999, 20_000])
def test_a_higher_score_never_has_a_lower_percentile(count: int) -> None:
    rng = np.random.default_rng(count)
    values = np.concatenate([rng.normal(0.4, 0.2, count), rng.integers(-1, 3, count)])
    known = Calibration.of(values)
    found = known.percentiles([-1.5, *np.sort(np.concatenate([rng.uniform(-1, 1, 5000), values])), 1.5])
    assert found == sorted(found)
    assert 0 <= found[0] <= found[-1] <= 100


def test_the_upper_tail_is_exact_and_the_table_small() -> None:
    values = np.sort(np.random.default_rng(0).beta(5, 3, 499_500))
    known = Calibration.of(values)
    assert known.scores.nbytes + known.percents.nbytes < 250_000
    ranks = np.array([1, 2, 10, 500, 4999])
    expected = 100 * (len(values) - ranks + 0.5) / (len(values) + 1)
    assert known.percentiles(values[-ranks]) == pytest.approx(expected, abs=1e-4)
    everywhere = np.arange(0, len(values), 777)
    assert known.percentiles(values[everywhere]) == pytest.approx(100 * everywhere / len(values), abs=0.01)


def test_random_directions_in_space_are_recognised(tmp_path: Path) -> None:
    # The cosine of two random directions in three dimensions is uniform from -1 to 1 (Archimedes).
    known = measured(store_of(tmp_path, unit_vectors(1000, seed=4, dimension=3)))
    scores = np.linspace(-1, 1, 41)
    assert known.percentiles(scores) == pytest.approx(50 * (1 + scores), abs=3)


def test_features_that_are_zero_or_no_numbers_do_no_harm(tmp_path: Path) -> None:
    features = np.eye(12, dtype=np.float32)
    features[3] = 0
    features[7, 0] = np.inf
    known = measured(store_of(tmp_path, features))
    # 11 pictures are left, in 55 pairs that have nothing in common.
    assert known.percentiles([-0.5, 0, 0.001, 1]) == pytest.approx([0, 50 * 55 / 56, 100 * 55 / 56, 100], abs=0.01)


# --- the sample --------------------------------------------------------------------------------------------------


def test_pairs_of_the_same_content_are_left_out(tmp_path: Path) -> None:
    features = np.repeat(np.eye(2, dtype=np.float32), [20, 1], axis=0)
    contents = ["the same"] * 20 + ["another"]
    # Else 190 of 210 pairs would be more similar than that.
    assert measured(store_of(tmp_path, features, contents)).percentiles([0.5])[0] > 95
    alone = store_of(tmp_path / "alone", features[:20], contents[:20])
    assert measure(alone) is None


def test_a_collection_of_few_pictures_has_none(tmp_path: Path) -> None:
    store = store_of(tmp_path, unit_vectors(9))
    assert measure(store) is None
    add(store, "more", unit_vectors(1, seed=5))
    assert len(measured(store).scores) == 2 * 45 + 2


def test_all_hosts_take_the_same_sample_whatever_the_segments(tmp_path: Path) -> None:
    store = store_of(tmp_path, unit_vectors(300))
    known = measured(store, 40)
    assert len(known.scores) == 2 * 40 * 39 // 2 + 2
    other = make_store(tmp_path, store.spec, cache="another-host")
    compact(other)
    again = measured(other, 40)
    assert np.array_equal(known.scores, again.scores)
    assert np.array_equal(known.percents, again.percents)


def test_most_of_the_sample_stays_when_the_collection_grows(tmp_path: Path) -> None:
    store = store_of(tmp_path, unit_vectors(200))
    before = {entry.image_id for entry in store.catalog.sample(100, SAMPLE_START)}
    add(store, "more", unit_vectors(20, seed=8))
    after = {entry.image_id for entry in store.catalog.sample(100, SAMPLE_START)}
    assert len(before) == len(after) == 100
    assert 80 <= len(before & after) < 100


def test_removed_pictures_are_in_no_sample(tmp_path: Path) -> None:
    store = store_of(tmp_path, unit_vectors(30))
    publish(store, "gone", [], {f"p/first/{row:04}": 5 for row in range(15)})
    store.refresh()
    assert {entry.path.split("/")[1] for entry in store.catalog.sample(100, SAMPLE_START)} == {"second"}


def test_a_compaction_under_the_measuring_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path, unit_vectors(40))
    expected = measured(make_store(tmp_path, store.spec, cache="another-host"))
    sample = Catalog.sample
    compactions = []

    def late(self: Catalog, count: int, start: bytes) -> list[CatalogEntry]:
        found = sample(self, count, start)
        if not compactions:
            compactions.append(compact(make_store(tmp_path, store.spec, cache="a-third-host")))
        return found

    monkeypatch.setattr(Catalog, "sample", late)
    assert np.array_equal(measured(store).scores, expected.scores)
    assert [report.merged for report in compactions] == [2]


def test_a_store_that_never_rests_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path, unit_vectors(12))

    def gone(name: str) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr(store, "segment", gone)
    with pytest.raises(StoreError, match="faster than it can be sampled"):
        measure(store)


# --- keeping up --------------------------------------------------------------------------------------------------


def settled(calibrator: Calibrator, store: FeatureStore) -> Calibration | None:
    """What searches get as soon as nothing is being measured any more."""
    calibrator.current(len(store))
    calibrator.settle()
    return calibrator.current(len(store))


def test_no_search_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path, unit_vectors(40))
    entered, go = threading.Event(), threading.Event()
    original = calibration.measure

    def slowly(store: FeatureStore, sample: int) -> Calibration | None:
        entered.set()
        assert go.wait(20)
        return original(store, sample)

    monkeypatch.setattr(calibration, "measure", slowly)
    calibrator = Calibrator(store)
    assert calibrator.current(40) is None
    assert entered.wait(20)
    assert calibrator.current(40) is None
    go.set()
    calibrator.settle()
    assert calibrator.current(40) is not None


def test_it_is_measured_again_when_the_collection_was_outgrown_or_shrank(tmp_path: Path) -> None:
    store = store_of(tmp_path, unit_vectors(20))
    calibrator = Calibrator(store)
    first = settled(calibrator, store)
    assert first is not None
    add(store, "few", unit_vectors(2, seed=6))
    assert settled(calibrator, store) is first
    add(store, "many", unit_vectors(1, seed=7))
    second = settled(calibrator, store)
    assert second is not None
    assert (len(first.scores), len(second.scores)) == (2 * 190 + 2, 2 * 253 + 2)
    publish(store, "gone", [], {f"p/first/{row:04}": 5 for row in range(8)})
    store.refresh()
    third = settled(calibrator, store)
    assert third is not None
    assert len(third.scores) == 2 * 105 + 2


def test_a_collection_that_became_too_small_has_none(tmp_path: Path) -> None:
    store = store_of(tmp_path, unit_vectors(12))
    calibrator = Calibrator(store)
    assert settled(calibrator, store) is not None
    publish(store, "gone", [], {f"p/first/{row:04}": 5 for row in range(6)})
    store.refresh()
    assert calibrator.current(len(store)) is None


def test_what_has_nothing_to_compare_is_not_measured_at_every_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, unit_vectors(20), ["the same"] * 20)
    calibrator = Calibrator(store)
    assert settled(calibrator, store) is None
    monkeypatch.setattr(calibration, "measure", lambda *_: pytest.fail("it was measured again"))
    assert settled(calibrator, store) is None
    assert calibrator._not_before == 0


def test_after_a_failure_it_is_tried_again_but_not_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(tmp_path, unit_vectors(20))
    calibrator = Calibrator(store)
    with monkeypatch.context() as broken:
        broken.setattr(calibration, "measure", lambda *_: store.segment("missing"))
        assert settled(calibrator, store) is None
    assert "could not be calibrated" in caplog.text
    assert settled(calibrator, store) is None
    calibrator._not_before = 0
    assert settled(calibrator, store) is not None
