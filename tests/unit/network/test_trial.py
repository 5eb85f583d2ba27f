"""Which precision is chosen, from what was measured."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from common.images import Pixels
from tests.fakes import FAKE_SPEC
from workers.network import trial as trials
from workers.network.batched import BatchedExtractor, FeatureMatrix
from workers.network.processor import processor_flags, processor_name, supported_precisions
from workers.network.trial import Trial, choose, compare, cosine


def trial(precision: str, rate: float, mean: float = 0.9999, worst: float = 0.999) -> Trial:
    return Trial(precision=precision, images_per_second=rate, mean_cosine=mean, worst_cosine=worst)


def test_the_fastest_faithful_precision_is_chosen() -> None:
    assert choose([trial("float32", 13), trial("bfloat16", 27), trial("int8", 46)]) == "int8"
    assert choose([trial("float32", 13), trial("bfloat16", 9), trial("int8", 11)]) == "float32"


@pytest.mark.parametrize(("mean", "worst"), [(0.9949, 0.994), (0.999, 0.9899), (float("nan"), float("nan"))])
def test_one_that_is_not_faithful_is_passed_over_with_a_line_in_the_log(
    mean: float, worst: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose([trial("float32", 13), trial("bfloat16", 27), trial("int8", 46, mean, worst)]) == "bfloat16"
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["precision int8 is passed over"]


def test_the_bounds_themselves_are_faithful() -> None:
    assert trial("int8", 46, 0.995, 0.99).is_faithful


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (set(), {"float32"}),
        ({"sse4_2", "avx2"}, {"float32", "int8"}),
        ({"avx2", "avx512_bf16"}, {"float32", "bfloat16", "int8"}),
        ({"avx2", "amx_bf16", "amx_int8"}, {"float32", "bfloat16", "int8"}),
        ({"asimddp"}, {"float32", "int8"}),
        ({"asimddp", "bf16"}, {"float32", "bfloat16", "int8"}),
    ],
)
def test_the_instructions_decide_what_is_measured(flags: set[str], expected: set[str]) -> None:
    assert set(supported_precisions(frozenset(flags))) == expected


def test_this_processor_is_known() -> None:
    assert processor_name()
    assert isinstance(processor_flags(), frozenset)


def test_features_that_are_both_zero_agree() -> None:
    zero = np.zeros((1, 4), np.float32)
    unit = np.eye(1, 4, dtype=np.float32)
    assert cosine(zero, zero).tolist() == [1.0]
    assert cosine(zero, unit).tolist() == [0.0]
    assert cosine(unit, unit).tolist() == [1.0]


class Machine:
    """A clock that goes on with each pass; other work makes some passes take ten times as long."""

    def __init__(self, disturbed: range) -> None:
        self.now = 0.0
        self.passes = 0
        self.disturbed = disturbed

    def take(self, seconds: float) -> None:
        self.now += seconds * (10 if self.passes in self.disturbed else 1)
        self.passes += 1


class PacedNetwork:
    """A network whose pass takes a certain time of that machine."""

    batch_sizes = (1, 16)

    def __init__(self, machine: Machine, seconds: float) -> None:
        self.machine = machine
        self.seconds = seconds

    def run(self, pixels: Pixels) -> FeatureMatrix:
        self.machine.take(self.seconds)
        return np.ones((len(pixels), FAKE_SPEC.dimension), np.float32)


# The last passes of the warm-up, the features that are compared, and a part of the rounds.
@pytest.mark.parametrize("disturbed", [range(8, 12), range(10, 16), range(11, 16), range(0)])
def test_other_work_of_the_machine_does_not_change_the_order(disturbed: range, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(disturbed)
    monkeypatch.setattr(trials.time, "perf_counter", lambda: machine.now)
    pictures = np.zeros((16, *FAKE_SPEC.input_size, 3), np.uint8)
    paces = {"bfloat16": 0.6, "int8": 0.35}
    found = compare(
        [BatchedExtractor(PacedNetwork(machine, seconds), FAKE_SPEC, name) for name, seconds in paces.items()],
        pictures,
        np.full((16, FAKE_SPEC.dimension), FAKE_SPEC.dimension**-0.5, np.float32),
    )
    assert {trial.precision: trial.images_per_second for trial in found} == {"bfloat16": 26.7, "int8": 45.7}
    assert choose(found) == "int8"
