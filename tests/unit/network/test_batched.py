"""How any number of pictures is split into passes."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import ModelError
from common.images import Pixels
from tests.fakes import FAKE_SPEC
from workers.network.batched import BatchedExtractor, FeatureMatrix, plan_passes

SPEC = FAKE_SPEC.model_copy(update={"dimension": 3, "input_size": (2, 2)})


class CountingNetwork:
    """Gives each picture the colour of its first pixel, and remembers how many pictures came at a time."""

    batch_sizes = (1, 4, 16)

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, pixels: Pixels) -> FeatureMatrix:
        self.sizes.append(len(pixels))
        return pixels[:, 0, 0].astype(np.float32)


def pictures(number: int) -> Pixels:
    return np.random.default_rng(number).integers(1, 256, (number, 2, 2, 3), dtype=np.uint8)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 15, 16, 17, 37])
def test_every_picture_gets_its_own_feature(number: int) -> None:
    network = CountingNetwork()
    extractor = BatchedExtractor(network, SPEC, "float32")
    pixels = pictures(number)
    network.sizes.clear()
    features = extractor.extract(pixels)
    colours = pixels[:, 0, 0].astype(np.float32)
    np.testing.assert_allclose(features, colours / np.linalg.norm(colours, axis=1, keepdims=True), rtol=1e-6)
    assert features.dtype == np.float32
    assert sum(network.sizes) >= number
    assert set(network.sizes) <= {1, 4, 16}


def test_every_size_is_warm_before_the_first_picture() -> None:
    network = CountingNetwork()
    extractor = BatchedExtractor(network, SPEC, "float32")
    assert set(network.sizes) == {1, 4, 16}
    assert set(extractor.seconds) == {1, 4, 16}
    assert extractor.images_per_second > 0


def test_quicker_passes_than_those_at_the_start_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers start beside each other; what they measure then is no measure of what follows."""
    now, each = 0.0, 2.5

    class BusyMachine(CountingNetwork):
        def run(self, pixels: Pixels) -> FeatureMatrix:
            nonlocal now
            now += each * len(pixels)
            return super().run(pixels)

    monkeypatch.setattr("workers.network.batched.time.perf_counter", lambda: now)
    extractor = BatchedExtractor(BusyMachine(), SPEC, "float32")
    assert extractor.images_per_second == pytest.approx(0.4)
    each = 0.25
    extractor.extract(pictures(16))
    assert extractor.images_per_second == pytest.approx(4)
    assert extractor.estimated_seconds(16) == pytest.approx(4)
    each = 1.0  # there is other work again
    extractor.extract(pictures(16))
    assert extractor.images_per_second == pytest.approx(4)


def test_what_was_slow_at_the_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now, each = 0.0, {1: 2.0, 4: 1.9, 16: 1.8}

    class BusyMachine(CountingNetwork):
        def run(self, pixels: Pixels) -> FeatureMatrix:
            nonlocal now
            now += each[len(pixels)] * len(pixels)
            return super().run(pixels)

    monkeypatch.setattr("workers.network.batched.time.perf_counter", lambda: now)
    network = BusyMachine()
    extractor = BatchedExtractor(network, SPEC, "float32")
    each = {1: 1.0, 4: 0.5, 16: 0.75}
    extractor.extract(pictures(1))
    assert extractor.seconds == pytest.approx({1: 1, 4: 3.8, 16: 14.4}), "the others were slowed down as much"
    network.sizes.clear()
    extractor.extract(pictures(4))
    assert network.sizes == [4]
    assert extractor.seconds == pytest.approx({1: 1, 4: 2, 16: 28.8 * 2 / 7.6})
    extractor.extract(pictures(16))
    assert network.sizes == [4, 16]
    assert extractor.seconds == pytest.approx({1: 1, 4: 2, 16: 12}), "it is measured, and no guess any more"


def test_what_any_number_takes_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = BatchedExtractor(CountingNetwork(), SPEC, "float32")
    monkeypatch.setattr(extractor, "seconds", {1: 1.0, 4: 3.0, 16: 11.0})
    monkeypatch.setattr(extractor, "_plans", plan_passes(extractor.seconds))
    taken = {number: extractor.estimated_seconds(number) for number in (0, 1, 2, 5, 16, 37)}
    assert taken == {0: 0, 1: 1, 2: 2, 5: 4, 16: 11, 37: 26}


def test_where_a_full_pass_is_hardly_dearer_it_is_padded() -> None:
    assert plan_passes({1: 1.0, 4: 1.5}) == {0: (), 1: (1,), 2: (4,), 3: (4,), 4: (4,)}


def test_where_a_pass_costs_by_the_picture_nothing_is_padded() -> None:
    plans = plan_passes({1: 1.0, 4: 3.9, 16: 15.0})
    assert plans[3] == (1, 1, 1)
    assert plans[5] == (4, 1)
    assert plans[12] == (4, 4, 4)
    assert plans[13] == (4, 4, 4, 1)
    assert plans[16] == (16,)


def test_a_plan_covers_its_number_and_only_its_last_pass_is_padded() -> None:
    random = np.random.default_rng(3)
    for _ in range(50):
        seconds = {size: float(random.uniform(0.5, 1.5) * size**0.8) for size in (1, 2, 8)}
        for number, sizes in plan_passes(seconds).items():
            assert sum(sizes) >= number
            assert sum(sizes[:-1]) < max(number, 1)


class BrokenNetwork(CountingNetwork):
    """Gives what is no number."""

    def run(self, pixels: Pixels) -> FeatureMatrix:
        return np.full((len(pixels), 3), np.nan, np.float32)


def test_values_that_are_no_numbers_are_noticed_at_the_start() -> None:
    with pytest.raises(ModelError, match="no numbers"):
        BatchedExtractor(BrokenNetwork(), SPEC, "float32")
