"""The algorithm that this product replaces, as a peer for tests and measurements.

One image at a time: `resize((224, 224))`, RGB, `preprocess_input`, `model.predict`, fc1, L2-normalised; a search
sorts the Euclidean distances to every feature in a list.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image

from workers.network.keras_models import set_untrained_weights


class OldAlgorithm:
    """The old feature extractor and search.

    Args:
        weights: A file for `load_weights`, or None for this product's seeded untrained weights.
    """

    def __init__(self, weights: Path | None) -> None:
        keras.config.set_dtype_policy("float32")
        self.whole = keras.applications.VGG16(weights=None)
        if weights is None:
            set_untrained_weights(self.whole)
        else:
            self.whole.load_weights(str(weights))
        self.model = keras.Model(inputs=self.whole.input, outputs=self.whole.get_layer("fc1").output)

    def extract(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """The feature of one picture, (4096,) float32."""
        pixels = np.asarray(image.resize((224, 224)).convert("RGB"), dtype=np.float32).copy()
        batch = keras.applications.vgg16.preprocess_input(np.expand_dims(pixels, axis=0))
        feature = self.model.predict(batch, verbose=0)[0]
        normalised: npt.NDArray[np.float32] = feature / np.linalg.norm(feature)
        return normalised


def old_search(
    query: npt.NDArray[np.float32], features: list[npt.NDArray[np.float32]], k: int
) -> list[tuple[float, int]]:
    """The `k` nearest of a list of features, as (distance, position): every distance is computed and sorted."""
    distances = [float(np.linalg.norm(feature - query)) for feature in features]
    return sorted((distance, position) for position, distance in enumerate(distances))[:k]
