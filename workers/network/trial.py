"""Chooses a precision: the fastest one whose features stay close to those of float32 on real pictures."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np

from common.images import Pixels
from common.messages import Message
from workers.network.batched import FULL_BATCH, BatchedExtractor, FeatureMatrix

logger = logging.getLogger(__name__)

# Cosine to float32, on average and at worst.
MEAN_FIDELITY = 0.995
WORST_FIDELITY = 0.99
ROUNDS = 4


class Trial(Message):
    """What a precision showed."""

    precision: str
    images_per_second: float
    mean_cosine: float
    worst_cosine: float

    @property
    def is_faithful(self) -> bool:
        """Whether its features may stand for those of float32."""
        return self.mean_cosine >= MEAN_FIDELITY and self.worst_cosine >= WORST_FIDELITY


def compare(
    extractors: Sequence[BatchedExtractor], pictures: Pixels, reference: FeatureMatrix, rounds: int = ROUNDS
) -> list[Trial]:
    """Measures extractors beside each other.

    They take turns, and of each its best round counts: the machine may have other work, which comes and goes, and the
    choice that is made here is kept.

    Args:
        extractors: All that there are to choose from.
        pictures: (n, h, w, 3) uint8.
        reference: Their features in float32, (n, d).
        rounds: How many turns each gets.
    """
    for extractor in extractors:
        extractor.warm_up()
    cosines = [cosine(extractor.extract(pictures), reference) for extractor in extractors]
    batch, rates = pictures[:FULL_BATCH], [0.0] * len(extractors)
    for _ in range(rounds):
        for number, extractor in enumerate(extractors):
            start = time.perf_counter()
            extractor.extract(batch)
            rates[number] = max(rates[number], len(batch) / (time.perf_counter() - start))
    return [
        Trial(
            precision=extractor.precision,
            images_per_second=round(rate, 1),
            mean_cosine=round(float(found.mean()), 6),
            worst_cosine=round(float(found.min()), 6),
        )
        for extractor, rate, found in zip(extractors, rates, cosines, strict=True)
    ]


def cosine(features: FeatureMatrix, reference: FeatureMatrix) -> FeatureMatrix:
    """Row by row; two features that are both all zero agree."""
    both_zero = ~features.any(axis=1) & ~reference.any(axis=1)
    return np.where(both_zero, np.float32(1), (features * reference).sum(axis=1))


def choose(trials: Sequence[Trial]) -> str:
    """The fastest faithful precision; float32 if none is. The log tells what was passed over, and why."""
    for trial in sorted(trials, key=lambda trial: -trial.images_per_second):
        figures = (trial.precision, trial.images_per_second, trial.mean_cosine, trial.worst_cosine)
        if trial.is_faithful:
            logger.info("precision %s: %.1f images a second, cosine to float32 %.5f, at worst %.5f", *figures)
            return trial.precision
        logger.warning(
            "precision %s is passed over: %.1f images a second, but its cosine to float32 is %.5f on average and "
            "%.5f at worst, less than %s and %s",
            *figures,
            MEAN_FIDELITY,
            WORST_FIDELITY,
        )
    return "float32"
