"""Stand-ins for what tests cannot afford: first of all a model without TensorFlow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.models import ModelSpec

FAKE_SPEC = ModelSpec(
    architecture="fake",
    layer="statistics",
    weights_sha256="0" * 64,
    preprocessing="none/1",
    dimension=8,
    input_size=(16, 16),
    trained=True,
)


class FakeExtractor:
    """Features that follow from the statistics of the pixels: similar pictures have similar features.

    It keeps what it was asked for in `calls`, one entry (the number of pictures) for each pass.
    """

    spec = FAKE_SPEC
    precision = "float32"
    full_batch = 16
    images_per_second = 100.0

    def __init__(self) -> None:
        self.calls: list[int] = []

    @property
    def pictures(self) -> int:
        """How many pictures went through."""
        return sum(self.calls)

    def extract(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `workers.extractor.FeatureExtractor.extract`."""
        self.calls.append(len(pixels))
        values = pixels.astype(np.float32) / 255
        upper = values[:, : values.shape[1] // 2].mean(axis=(1, 2))
        left = values[:, :, : values.shape[2] // 2].mean(axis=(1, 2))
        spread = values.std(axis=(1, 2, 3))[:, None]
        features = np.concatenate([upper, left, spread, np.full_like(spread, 0.05)], axis=1)
        return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)

    def estimated_seconds(self, number: int) -> float:
        """See `workers.extractor.FeatureExtractor.estimated_seconds`."""
        return number / self.images_per_second

    def warm_up_next(self) -> bool:
        """See `workers.extractor.FeatureExtractor.warm_up_next`."""
        return False
