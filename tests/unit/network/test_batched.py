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

    batch_sizes: tuple[int, ...] = (1, 4, 16)

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, pixels: Pixels) -> FeatureMatrix:
        self.sizes.append(len(pixels))
        return pixels[:, 0, 0].astype(np.float32)


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("workers.network.batched.time.perf_counter", lambda: self.now)


class PacedNetwork(CountingNetwork):
    """Takes so many seconds for a pass of each size, and some more for the first one."""

    def __init__(self, clock: Clock, seconds: dict[int, float], first: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._clock = clock
        self._first = dict.fromkeys(seconds, first)

    def run(self, pixels: Pixels) -> FeatureMatrix:
        self._clock.now += self.seconds[len(pixels)] + self._first.pop(len(pixels), 0.0)
        return super().run(pixels)


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


def test_it_begins_with_one_picture_and_is_warmed_up_step_by_step() -> None:
    network = CountingNetwork()
    extractor = BatchedExtractor(network, SPEC, "float32")
    for size, others in ((4, True), (16, False)):
        network.sizes.clear()
        assert size not in extractor.seconds
        assert extractor.warm_up_next() is others
        assert set(network.sizes) == {size}
        assert size in extractor.seconds
    network.sizes.clear()
    assert not extractor.warm_up_next()
    assert network.sizes == []
    assert extractor.images_per_second > 0


def test_sizes_that_are_unknown_are_measured_with_pictures_that_fill_them(monkeypatch: pytest.MonkeyPatch) -> None:
    network = PacedNetwork(Clock(monkeypatch), {1: 1.0, 4: 2.0, 16: 6.0}, first=5.0)
    extractor = BatchedExtractor(network, SPEC, "float32")
    assert extractor.seconds == {1: 6}
    network.sizes.clear()
    assert extractor.extract(pictures(3)).shape == (3, 3)
    assert network.sizes == [1, 1, 1]
    assert extractor.seconds == {1: 1}
    network.sizes.clear()
    # The first pass of a size also compiles: the second one is what it takes.
    extractor.extract(pictures(16))
    assert (network.sizes, set(extractor.seconds)) == ([16], {1})
    network.sizes.clear()
    extractor.extract(pictures(24))
    assert network.sizes == [16, 4, 4]
    assert extractor.seconds == {1: 1, 4: 2, 16: 6}
    network.sizes.clear()
    extractor.extract(pictures(23))
    assert network.sizes == [16, 4, 4], "now the last one is padded, where that is no dearer"


def test_where_larger_passes_are_worth_it_more_pictures_are_gathered() -> None:
    network = CountingNetwork()
    assert BatchedExtractor(network, SPEC, "float32").full_batch == 16
    network.batch_sizes = (1, 4, 16, 64)
    assert BatchedExtractor(network, SPEC, "float32").full_batch == 64
    network.batch_sizes = (1, 8)
    assert BatchedExtractor(network, SPEC, "float32").full_batch == 16


def test_quicker_passes_than_those_at_the_start_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers start beside each other; what they measure then is no measure of what follows."""
    network = PacedNetwork(Clock(monkeypatch), {1: 2.5, 4: 10.0, 16: 40.0})
    extractor = BatchedExtractor(network, SPEC, "float32")
    extractor.warm_up()
    assert extractor.images_per_second == pytest.approx(0.4)
    network.seconds = {1: 0.25, 4: 1.0, 16: 4.0}
    extractor.extract(pictures(16))
    assert extractor.images_per_second == pytest.approx(4)
    assert extractor.estimated_seconds(16) == pytest.approx(4)
    network.seconds = {1: 1.0, 4: 4.0, 16: 16.0}  # there is other work again
    extractor.extract(pictures(16))
    assert extractor.images_per_second == pytest.approx(4)


def test_what_was_slow_at_the_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    network = PacedNetwork(Clock(monkeypatch), {1: 2.0, 4: 7.6, 16: 28.8})
    extractor = BatchedExtractor(network, SPEC, "float32")
    extractor.warm_up()
    network.seconds = {1: 1.0, 4: 2.0, 16: 12.0}
    extractor.extract(pictures(1))
    assert extractor.seconds == pytest.approx({1: 1, 4: 3.8, 16: 14.4}), "the others were slowed down as much"
    network.sizes.clear()
    extractor.extract(pictures(4))
    assert network.sizes == [4]
    assert extractor.seconds == pytest.approx({1: 1, 4: 2, 16: 28.8 * 2 / 7.6})
    extractor.extract(pictures(16))
    assert network.sizes == [4, 16]
    assert extractor.seconds == pytest.approx({1: 1, 4: 2, 16: 12}), "it is measured, and no guess any more"


def test_what_any_number_takes_is_known_as_far_as_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = BatchedExtractor(PacedNetwork(Clock(monkeypatch), {1: 1.0, 4: 3.0, 16: 11.0}), SPEC, "float32")
    numbers = (0, 1, 2, 5, 16, 37)
    assert {number: extractor.estimated_seconds(number) for number in numbers} == {n: n for n in numbers}
    extractor.warm_up()
    taken = {number: extractor.estimated_seconds(number) for number in numbers}
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
