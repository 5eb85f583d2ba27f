"""From pixels to features: what the rest of the workers knows of the model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from common.images import Pixels
from common.models import ModelSpec
from common.settings import Settings
from common.weights import WeightsStatus
from workers.network.batched import BatchedExtractor, FeatureMatrix

logger = logging.getLogger(__name__)


class FeatureExtractor(Protocol):
    """Maps pictures to L2-normalised features."""

    spec: ModelSpec
    precision: str
    full_batch: int
    """So many pictures are worth gathering for one call of `extract`."""

    @property
    def images_per_second(self) -> float:
        """What the fastest batches give, of those that have been run so far."""
        ...

    def extract(self, pixels: Pixels) -> FeatureMatrix:
        """Features of (n, h, w, 3) uint8 pictures of the spec's input size: (n, d) float32, each of length 1.

        A feature that is all zero stays zero.
        """
        ...

    def estimated_seconds(self, number: int) -> float:
        """What `extract` takes for so many pictures, as far as it is known."""
        ...

    def warm_up_next(self) -> bool:
        """Runs the next larger batch that has not been run, on blank pictures; gives whether there are others.

        Without, the first pictures that fill it take longer.
        """
        ...


def load_extractor(
    settings: Settings,
    weights: WeightsStatus,
    *,
    threads: Callable[[], int] = lambda: 0,
    say: Callable[[str], None] = lambda text: None,
) -> BatchedExtractor:
    """Loads the model that the settings name, and warms it up for single pictures.

    Args:
        settings: `model` and `precision` decide.
        weights: The outcome of `common.weights.resolve_weights`.
        threads: Gives the threads for the network, 0 for one a core; asked late, when its libraries are imported.
        say: Told what takes long, if something does.

    Raises:
        ModelError: The file cannot be loaded, or does not fit.
        ConfigurationError: The precision is not available.
    """
    from workers.network.loading import load_network

    start = time.perf_counter()
    network, spec, precision = load_network(settings, weights, threads, say)
    extractor = BatchedExtractor(network, spec, precision)
    logger.info(
        "%s (%s, %s) ready in %.1f s",
        spec.name,
        "trained" if spec.trained else "untrained",
        precision,
        time.perf_counter() - start,
    )
    return extractor
