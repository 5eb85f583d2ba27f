"""What a score is worth in this collection: its percentile among random pairs of the collection's own pictures.

A cosine says little by itself: of one network unrelated photos have 0.2, of another 0.6, and in a collection of nothing
but beaches everything is similar. So a score is compared with the empirical distribution of background similarities,
those of pairs that chance has put together, as an empirical p-value is made: of n random scores r are at least as high,
p = (r + 1) / (n + 1) (North, Curtis and Sham 2002). The percentile is 100 (1 - p); between two known pairs it is
interpolated, and where many have the same score it is the middle of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import StoreError
from common.store import CatalogEntry, FeatureStore

logger = logging.getLogger(__name__)

# With fewer pictures a percentile means nothing.
LEAST_IMAGES = 10
# 500,000 pairs. Measured: the standard error is 0.4 at a percentile of 50, 0.05 at 99 and 0.015 at 99.9. With 4,096
# values they take 16 MB while they are compared.
SAMPLE_IMAGES = 1000
# Always the images with the lowest ids.
SAMPLE_START = b""
# Kept of the sorted scores: each of the highest ones, where results lie, and so many spread over all others.
_TAIL = 5000
_GRID = 1000
# Pairs are made of so many pictures with all others at a time.
_BLOCK_ROWS = 100
# The distribution is measured again when the collection has changed its size by more than this part.
_OUTGROWN = 0.1
_RETRY_SECONDS = 30.0
_DECIMALS = 4

Values = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """The distribution of the similarities of random pairs.

    Attributes:
        scores: (m,) ascending, from -1 to 1; each score of a pair that was kept is in it twice.
        percents: (m,) ascending, from 0 to 100: how many pairs are below such a score, and up to it.
    """

    scores: Values
    percents: Values

    @classmethod
    def of(cls, similarities: npt.NDArray[np.floating[Any]]) -> Calibration:
        """The distribution of (n,) similarities, of which there is at least one."""
        values = np.clip(np.sort(similarities).astype(np.float64), -1, 1)
        count = len(values)
        kept = np.unique(np.concatenate([values[:: max(1, count // _GRID)], values[-_TAIL:]]))
        pairs = np.column_stack([np.searchsorted(values, kept, "left"), np.searchsorted(values, kept, "right")])
        return cls(
            scores=np.concatenate([[-1.0], np.repeat(kept, 2), [1.0]]),
            percents=100 * np.concatenate([[0.0], pairs.ravel() / (count + 1), [1.0]]),
        )

    def percentiles(self, scores: Sequence[float]) -> list[float]:
        """The percentile of each score, 0 to 100: never lower for a higher score."""
        asked = np.clip(np.asarray(scores, np.float64), -1, 1)
        first, behind = np.searchsorted(self.scores, asked, "left"), np.searchsorted(self.scores, asked, "right")
        known = (self.percents[first] + self.percents[behind - 1]) / 2
        between = np.interp(asked, self.scores, self.percents)
        found: list[float] = np.round(np.where(first < behind, known, between), _DECIMALS).tolist()
        return found


def measure(store: FeatureStore, sample: int = SAMPLE_IMAGES) -> Calibration | None:
    """The distribution in a store, of all pairs of a sample but those with the same content.

    The sample is the same in every process and on every host, and most of it stays when the collection grows.

    Args:
        store: The store.
        sample: How many pictures at most.

    Returns:
        None if there are too few pictures.

    Raises:
        StoreError: The store changed again and again, or is damaged.
    """
    for _ in range(3):
        store.keep_up()
        entries = store.catalog.sample(sample, SAMPLE_START)
        if len(entries) < LEAST_IMAGES:
            return None
        try:
            features = _features(store, entries)
        except (KeyError, FileNotFoundError):
            continue  # segments were merged meanwhile
        similarities = _similarities(features, [entry.record.content_hash for entry in entries])
        return Calibration.of(similarities) if len(similarities) else None
    raise StoreError("The feature store changes faster than it can be sampled.")


def _features(store: FeatureStore, entries: Sequence[CatalogEntry]) -> Singles:
    """The stored features, (n, d) float32, normalised."""
    names = {row.id: row.name for row in store.catalog.segments()}
    features = np.empty((len(entries), store.spec.dimension), np.float32)
    # One by one, so that other threads have their turn while a row is read from the disk.
    for position, entry in enumerate(entries):
        features[position] = store.segment(names[entry.segment_id]).features[entry.row]
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features))
    with np.errstate(invalid="ignore"):  # one that is not finite makes no pair
        features /= np.where(lengths > 0, lengths, 1)[:, None]
    return features


def _similarities(features: Singles, contents: Sequence[bytes]) -> Singles:
    """The cosine of each pair with different contents, (n,)."""
    numbers = {content: number for number, content in enumerate(contents)}
    content = np.array([numbers[content] for content in contents])
    found = []
    for start in range(0, len(features), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        with np.errstate(invalid="ignore"):
            products = features[rows] @ features[start:].T
        is_pair = np.triu(content[rows, None] != content[None, start:], 1)
        found.append(products[is_pair])
    similarities: Singles = np.concatenate(found)
    return np.compress(np.isfinite(similarities), similarities)


class Calibrator:
    """Keeps the calibration of a store in step with it, measured in a thread of its own: no search ever waits for it.

    Args:
        store: The store.
        sample: How many pictures are compared with each other.
    """

    def __init__(self, store: FeatureStore, *, sample: int = SAMPLE_IMAGES) -> None:
        self._store = store
        self._sample = sample
        self._latest: Calibration | None = None
        self._measured_with = 0
        self._not_before = 0.0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def current(self, images: int) -> Calibration | None:
        """The calibration, or None until it is known. Never waits.

        Args:
            images: How many images there are now: if that is no longer what was measured, it is measured again in
                the background, while the last one goes on serving.
        """
        if images < LEAST_IMAGES:
            return None
        if self._is_outgrown(images) and self._starting.acquire(blocking=False):
            try:
                if self._thread is None and time.monotonic() >= self._not_before:
                    self._thread = threading.Thread(target=self._run, args=(images,), name="calibration", daemon=True)
                    self._thread.start()
            finally:
                self._starting.release()
        return self._latest

    def settle(self) -> None:
        """Waits for a measuring that is under way."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _is_outgrown(self, images: int) -> bool:
        return abs(images - self._measured_with) > _OUTGROWN * self._measured_with

    def _run(self, images: int) -> None:
        try:
            self._latest = measure(self._store, self._sample)
            self._measured_with = images
        except Exception:
            logger.warning("the scores could not be calibrated, next try in a moment", exc_info=True)
            self._not_before = time.monotonic() + _RETRY_SECONDS
        finally:
            self._thread = None
