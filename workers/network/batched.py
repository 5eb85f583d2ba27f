"""Runs a network in whole batches and normalises what comes out."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.errors import ModelError
from common.images import Pixels
from common.models import ModelSpec

FeatureMatrix = npt.NDArray[np.float32]

# A longer first pass is hardly longer than the next ones.
_SHORT_SECONDS = 0.5


class Network(Protocol):
    """A network that runs batches of certain sizes."""

    batch_sizes: tuple[int, ...]
    """Ascending; the first is 1."""

    def run(self, pixels: Pixels) -> FeatureMatrix:
        """Features of (n, h, w, 3) uint8 pictures, not normalised: (n, d) float32. `n` is one of `batch_sizes`."""
        ...


class BatchedExtractor:
    """Splits any number of pictures into the batches that a network runs fastest.

    Not thread-safe: call it from one thread.

    Args:
        network: The network.
        spec: What the features are.
        precision: The arithmetic of the network.
    """

    def __init__(self, network: Network, spec: ModelSpec, precision: str) -> None:
        self.spec = spec
        self.precision = precision
        self._network = network
        self._largest = network.batch_sizes[-1]
        self._at_start = self._warm_up()
        self._since: dict[int, float] = {}
        self.seconds = dict(self._at_start)
        """What one pass of each size takes: the quickest so far, or what follows from that for those not run since."""
        self._plans = plan_passes(self.seconds)

    @property
    def images_per_second(self) -> float:
        """See `workers.extractor.FeatureExtractor.images_per_second`."""
        return max(size / seconds for size, seconds in self.seconds.items())

    def extract(self, pixels: Pixels) -> FeatureMatrix:
        """See `workers.extractor.FeatureExtractor.extract`.

        Raises:
            ModelError: The network gives values that are no numbers.
        """
        parts = [np.zeros((0, self.spec.dimension), np.float32)]
        start = 0
        while start < len(pixels):
            for size in self._plans[min(len(pixels) - start, self._largest)]:
                parts.append(self._pass(pixels[start : start + size], size))
                start += size
        features: FeatureMatrix = np.concatenate(parts)
        _check(features)
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        return np.divide(features, norms, out=features, where=norms > 0)

    def estimated_seconds(self, number: int) -> float:
        """See `workers.extractor.FeatureExtractor.estimated_seconds`."""
        full, rest = divmod(number, self._largest)
        sizes = (*self._plans[self._largest] * full, *self._plans[rest])
        return sum(self.seconds[size] for size in sizes)

    def _pass(self, part: Pixels, size: int) -> FeatureMatrix:
        whole = part
        if len(part) < size:
            whole = np.zeros((size, *part.shape[1:]), np.uint8)
            whole[: len(part)] = part
        start = time.perf_counter()
        features = self._network.run(whole)
        self._learn(size, time.perf_counter() - start)
        return features[: len(part)]

    def _learn(self, size: int, seconds: float) -> None:
        """Notes a pass that was quicker than all before: at the start of this worker, others may have started, too.

        Then passes of the other sizes were slowed down as much. Else those would never be tried again.
        """
        quickest = min(seconds, self._since.get(size, self._at_start[size]))
        if quickest == self._since.get(size):
            return
        self._since[size] = quickest
        gain = min(since / self._at_start[size] for size, since in self._since.items())
        self.seconds = {size: self._since.get(size, gain * before) for size, before in self._at_start.items()}
        self._plans = plan_passes(self.seconds)

    def _warm_up(self) -> dict[int, float]:
        """Runs every size; returns the seconds of each. The first pass of a size also compiles and allocates."""
        seconds = {}
        for size in self._network.batch_sizes:
            seconds[size] = self._time(size)
            if seconds[size] < _SHORT_SECONDS:
                seconds[size] = self._time(size)
        return seconds

    def _time(self, size: int) -> float:
        pixels = np.zeros((size, *self.spec.input_size, 3), np.uint8)
        start = time.perf_counter()
        features = self._network.run(pixels)
        seconds = time.perf_counter() - start
        _check(features)
        return seconds


def _check(features: FeatureMatrix) -> None:
    if not np.isfinite(features).all():
        raise ModelError("The model produced values that are no numbers: its weights are damaged or do not fit.")


def plan_passes(seconds: dict[int, float]) -> dict[int, tuple[int, ...]]:
    """The quickest sequence of batch sizes for each number of pictures up to the largest size.

    Args:
        seconds: What a pass of each size takes. The last pass of a sequence may be padded.

    Returns:
        Sizes in descending order for 1, 2, … pictures; only the last one reaches beyond the number.
    """
    costs, plans = {0: 0.0}, {0: tuple[int, ...]()}
    for number in range(1, max(seconds) + 1):
        best = min(seconds, key=lambda size: (seconds[size] + costs[max(0, number - size)], size))
        rest = max(0, number - best)
        costs[number] = seconds[best] + costs[rest]
        plans[number] = tuple(sorted((best, *plans[rest]), reverse=True))
    return plans
