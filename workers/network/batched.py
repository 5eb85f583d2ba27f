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

# More pictures at a time gain less than 2 % on a processor.
FULL_BATCH = 16
# A first pass also compiles and allocates; one that is longer is hardly longer than the next ones.
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

    It is made with one pass of a single picture. Larger sizes are run when there are as many pictures for them, or
    before, in `warm_up_next`.

    Not thread-safe: call it from one thread.

    Args:
        network: The network.
        spec: What the features are.
        precision: The arithmetic of the network.
    """

    def __init__(self, network: Network, spec: ModelSpec, precision: str) -> None:
        self.spec = spec
        self.precision = precision
        self.full_batch = max(FULL_BATCH, network.batch_sizes[-1])
        self._network = network
        self._begun = set[int]()
        self._at_start: dict[int, float] = {}
        self._since: dict[int, float] = {}
        self.seconds: dict[int, float] = {}
        """What one pass of each size takes that has been measured: the quickest so far, or what follows from others."""
        self.warm_up_next()

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
            for size in self._next_passes(len(pixels) - start):
                parts.append(self._pass(pixels[start : start + size], size))
                start += size
        features: FeatureMatrix = np.concatenate(parts)
        _check(features)
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        return np.divide(features, norms, out=features, where=norms > 0)

    def warm_up_next(self) -> bool:
        """See `workers.extractor.FeatureExtractor.warm_up_next`.

        Raises:
            ModelError: The network gives values that are no numbers.
        """
        unknown = self._unknown_sizes()
        if unknown:
            seconds = self._time(unknown[0])
            self._at_start[unknown[0]] = self._time(unknown[0]) if seconds < _SHORT_SECONDS else seconds
            self._plan()
        return len(unknown) > 1

    def warm_up(self) -> None:
        """Runs all sizes that have not been measured."""
        while self.warm_up_next():
            pass

    def estimated_seconds(self, number: int) -> float:
        """See `workers.extractor.FeatureExtractor.estimated_seconds`."""
        full, rest = divmod(number, max(self.seconds))
        sizes = (*self._plans[max(self.seconds)] * full, *self._plans[rest])
        return sum(self.seconds[size] for size in sizes)

    def _unknown_sizes(self) -> list[int]:
        return [size for size in self._network.batch_sizes if size not in self._at_start]

    def _next_passes(self, number: int) -> tuple[int, ...]:
        """The passes for the next of so many pictures: one to measure a size that is unknown, or the quickest."""
        filled = [size for size in self._unknown_sizes() if size <= number]
        return (filled[-1],) if filled else self._plans[min(number, max(self.seconds))]

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
        if size not in self._at_start and size not in self._begun:
            self._begun.add(size)  # the next one counts
            return
        quickest = min(seconds, self._since.get(size, self._at_start.get(size, seconds)))
        if quickest != self._since.get(size):
            self._since[size] = quickest
            self._at_start.setdefault(size, quickest)
            self._plan()

    def _plan(self) -> None:
        gain = min((since / self._at_start[size] for size, since in self._since.items()), default=1.0)
        self.seconds = {size: self._since.get(size, gain * before) for size, before in self._at_start.items()}
        self._plans = plan_passes(self.seconds)

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
