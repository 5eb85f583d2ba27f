"""A model in int8 in LiteRT (formerly TensorFlow Lite), whose XNNPACK kernels need no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import ModelError
from common.files import atomic_path
from common.images import Pixels
from common.models import ModelSpec
from workers.network.batched import FeatureMatrix
from workers.network.keras_models import VGG16
from workers.network.keras_network import VGG_MEANS_BGR

if TYPE_CHECKING:
    import keras

# Each size packs the weights once more in memory, and a pass of 16 is no quicker for a picture than one of 8.
BATCH_SIZES = (1, 8)


class LiteRtNetwork:
    """Runs a converted model.

    Args:
        path: The file that `convert` wrote.
        threads: Threads of a pass; 0 for LiteRT's own choice.

    Raises:
        ModelError: The file is damaged.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.batch_sizes = BATCH_SIZES
        try:
            self._interpreters = {size: _interpreter(path, size, threads) for size in self.batch_sizes}
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelError(f"{path} cannot be loaded: {error}") from error

    def run(self, pixels: Pixels) -> FeatureMatrix:
        """See `Network.run`."""
        interpreter, source, target = self._interpreters[len(pixels)]
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        features: FeatureMatrix = interpreter.get_tensor(target)
        return features


def _interpreter(path: Path, size: int, threads: int) -> tuple[Any, int, int]:
    """An interpreter for one batch size, and the numbers of its input and output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads or None)
    source = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(source["index"], (size, *source["shape"][1:]))
    interpreter.allocate_tensors()
    return interpreter, source["index"], interpreter.get_output_details()[0]["index"]


def convert(model: keras.Model, spec: ModelSpec, target: Path) -> None:
    """Writes a model as a LiteRT file with int8 weights; activations are quantised as they come (dynamic range).

    Takes about 20 s and 4 GB of memory for VGG16.

    Args:
        model: In float32, from (n, h, w, 3) to (n, d).
        spec: Tells VGG16, which gets its preprocessing into the file.
        target: The file, from (n, h, w, 3) uint8 RGB to (n, d) float32. One that is there is kept.
    """
    import keras
    import tensorflow as tf

    inputs = keras.Input((*spec.input_size, 3), dtype="uint8")
    with _rgb_input(model, spec) as offset:
        outputs = model(keras.layers.Rescaling(1.0, offset=offset)(inputs))
        converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, outputs))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        content = converter.convert()
    with atomic_path(target, overwrite=False) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _rgb_input(model: keras.Model, spec: ModelSpec) -> Iterator[list[float]]:
    """Turns VGG16's first kernel round meanwhile, so that it wants RGB: LiteRT reverses channels slowly.

    Yields:
        What is to be added to red, green and blue.
    """
    if spec.architecture != VGG16:
        yield [0.0, 0.0, 0.0]
        return
    kernel = next(variable for variable in model.weights if len(variable.shape) == 4)
    kernel.assign(kernel.numpy()[:, :, ::-1])
    try:
        yield [-mean for mean in reversed(VGG_MEANS_BGR)]
    finally:
        kernel.assign(kernel.numpy()[:, :, ::-1])
