"""A Keras model in TensorFlow, in float32 or bfloat16, on the processor or a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common.images import Pixels
from common.models import ModelSpec
from workers.network.batched import FeatureMatrix
from workers.network.keras_models import VGG16

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

CPU_BATCH_SIZES = (1, 4, 16)
# A GPU is not busy with 16 pictures.
GPU_BATCH_SIZES = (1, 4, 16, 64)
# Means of ImageNet's blue, green and red channels, as in keras.applications.imagenet_utils (mode "caffe").
VGG_MEANS_BGR = (103.939, 116.779, 123.68)


class KerasNetwork:
    """Runs a Keras model through one compiled function for each batch size.

    Args:
        model: Maps (n, h, w, 3) to (n, d).
        spec: What the features are. VGG16 gets BGR minus the channel means, other models RGB from 0 to 255.
    """

    def __init__(self, model: keras.Model, spec: ModelSpec) -> None:
        self.batch_sizes = GPU_BATCH_SIZES if has_gpu() else CPU_BATCH_SIZES
        self._run = {size: _compile(model, spec, size) for size in self.batch_sizes}

    def run(self, pixels: Pixels) -> FeatureMatrix:
        """See `Network.run`."""
        features: FeatureMatrix = self._run[len(pixels)](pixels).numpy()
        return features


def _compile(model: keras.Model, spec: ModelSpec, size: int) -> Callable[[Pixels], Any]:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((size, *spec.input_size, 3), tf.uint8)])
    def run(pixels: Any) -> Any:
        images = tf.cast(pixels, tf.float32)
        if spec.architecture == VGG16:
            images = images[..., ::-1] - tf.constant(VGG_MEANS_BGR)
        return tf.cast(model(images, training=False), tf.float32)

    return run  # type: ignore[no-any-return]


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def set_threads(threads: Callable[[], int]) -> None:
    """Limits TensorFlow to so many threads; without effect once it has computed something.

    Args:
        threads: Gives those for the work within an operation, 0 for TensorFlow's own choice; asked when TensorFlow is
            imported, which takes seconds.
    """
    import tensorflow as tf

    number = threads()
    try:
        for gpu in tf.config.list_physical_devices("GPU"):
            # It would take all of the GPU's memory, and leave none to the other workers.
            tf.config.experimental.set_memory_growth(gpu, True)
        if number:
            tf.config.threading.set_intra_op_parallelism_threads(number)
            # The layers follow one another: there is nothing to run side by side.
            tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        logger.debug("TensorFlow's threads stay as they are: %s", error)
