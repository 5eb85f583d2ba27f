"""From pixels to features: VGG16's fc1, or any Keras model that maps RGB images to vectors.

The only module that imports TensorFlow, and only inside functions: the parent of a prefork pool must never
touch it.
"""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from common.errors import ConfigurationError, ModelError
from common.images import Pixels
from common.models import ModelSpec
from common.settings import Settings
from common.weights import WeightsStatus

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

# A compiled function for each; what is left over is padded to the next larger one.
BATCH_SIZES = (1, 4, 16)
# The untrained weights are the same on every host: they follow from this seed alone.
UNTRAINED_SEED = 20_160_905
# Means of ImageNet's blue, green and red channels, as in keras.applications.imagenet_utils (mode "caffe").
VGG_MEANS_BGR = (103.939, 116.779, 123.68)

FeatureMatrix = npt.NDArray[np.float32]


class FeatureExtractor(Protocol):
    """Maps pictures to L2-normalised features."""

    spec: ModelSpec
    precision: str
    images_per_second: float
    """Measured at start with full batches."""

    def extract(self, pixels: Pixels) -> FeatureMatrix:
        """Features of (n, h, w, 3) uint8 pictures of the spec's input size: (n, d) float32, each of length 1.

        A feature that is all zero stays zero.
        """
        ...


class KerasExtractor:
    """Runs a Keras model through one compiled function for each batch size.

    Not thread-safe: call it from one thread.

    Args:
        model: Maps (n, h, w, 3) to (n, d).
        spec: What the features are.
        precision: `float32` or `bfloat16`: the arithmetic the model was built with.
        vgg_preprocessing: Whether the model wants BGR minus the channel means instead of RGB 0 to 255.
    """

    def __init__(self, model: keras.Model, spec: ModelSpec, precision: str, *, vgg_preprocessing: bool) -> None:
        self.spec = spec
        self.precision = precision
        self._run = {size: _compile(model, spec, size, vgg_preprocessing) for size in BATCH_SIZES}
        self.images_per_second = self._warm_up()

    def extract(self, pixels: Pixels) -> FeatureMatrix:
        """See `FeatureExtractor.extract`."""
        parts = []
        start = 0
        while start < len(pixels):
            part = pixels[start : start + BATCH_SIZES[-1]]
            size = next(size for size in BATCH_SIZES if size >= len(part))
            padded = np.zeros((size, *part.shape[1:]), np.uint8)
            padded[: len(part)] = part
            parts.append(self._run[size](padded).numpy()[: len(part)])
            start += len(part)
        if not parts:
            return np.zeros((0, self.spec.dimension), np.float32)
        features: FeatureMatrix = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise ModelError("The model produced values that are no numbers: its weights are damaged or do not fit.")
        return features

    def _warm_up(self) -> float:
        """Compiles every function; returns the speed with full batches, in images a second."""
        for size in BATCH_SIZES:
            self.extract(np.zeros((size, *self.spec.input_size, 3), np.uint8))
        full = np.zeros((BATCH_SIZES[-1], *self.spec.input_size, 3), np.uint8)
        start = time.perf_counter()
        self.extract(full)
        return len(full) / (time.perf_counter() - start)


def _compile(model: keras.Model, spec: ModelSpec, size: int, vgg_preprocessing: bool) -> Callable[[Pixels], Any]:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((size, *spec.input_size, 3), tf.uint8)])
    def run(pixels: Any) -> Any:
        images = tf.cast(pixels, tf.float32)
        if vgg_preprocessing:
            images = images[..., ::-1] - tf.constant(VGG_MEANS_BGR)
        features = tf.cast(model(images, training=False), tf.float32)
        return tf.math.divide_no_nan(features, tf.norm(features, axis=1, keepdims=True))

    return run  # type: ignore[no-any-return]


def load_extractor(settings: Settings, weights: WeightsStatus) -> KerasExtractor:
    """Loads the model that the settings name, and warms it up.

    Args:
        settings: `model` and `precision` decide.
        weights: The outcome of `common.weights.resolve_weights`.

    Raises:
        ModelError: The file cannot be loaded, or does not fit.
        ConfigurationError: The precision is not available.
    """
    import keras

    precision = _precision(settings)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    start = time.perf_counter()
    if settings.model == "vgg16":
        model, spec = _vgg16(Path(weights.path) if weights.path else None)
    else:
        model, spec = _keras_file(Path(settings.model))
    extractor = KerasExtractor(model, spec, precision, vgg_preprocessing=settings.model == "vgg16")
    logger.info(
        "%s (%s, %s) ready in %.1f s: %.0f images a second",
        spec.name,
        "trained" if spec.trained else "untrained",
        precision,
        time.perf_counter() - start,
        extractor.images_per_second,
    )
    return extractor


def _precision(settings: Settings) -> str:
    if settings.precision == "int8":
        raise ConfigurationError("IMAGESEARCH_PRECISION", "int8 is not available yet; use float32 or bfloat16")
    return "float32" if settings.precision == "auto" else settings.precision


def _vgg16(weights: Path | None) -> tuple[keras.Model, ModelSpec]:
    """VGG16 up to fc1 (Simonyan and Zisserman 2014, as in keras.applications)."""
    import keras

    whole = keras.applications.VGG16(weights=None, include_top=True)
    if weights is None:
        set_untrained_weights(whole)
    else:
        try:
            with _nothing_skipped():
                whole.load_weights(str(weights))
        except _LOAD_ERRORS as error:
            raise ModelError(
                f"{weights} does not hold the weights of VGG16 with its top layers, in Keras's layout: {error}"
            ) from error
    model = keras.Model(whole.inputs, whole.get_layer("fc1").output)
    spec = ModelSpec(
        architecture="vgg16",
        layer="fc1",
        weights_sha256=_weights_digest(model) if weights else f"untrained-{UNTRAINED_SEED}",
        preprocessing="bicubic-224-caffe-bgr/1",
        dimension=4096,
        input_size=(224, 224),
        trained=weights is not None,
    )
    return model, spec


_LOAD_ERRORS = (ValueError, OSError, TypeError, KeyError, UserWarning)


@contextmanager
def _nothing_skipped() -> Iterator[None]:
    """Keras only warns of layers that a file has no weights for, and leaves random ones in them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        yield


def set_untrained_weights(model: keras.Model) -> None:
    """Seeded weights, He-uniform (He et al. 2015), biases zero: bit by bit the same on every host.

    Made by NumPy in separate steps, because a framework's own initialisers may round differently on another
    processor.
    """
    generator = np.random.Generator(np.random.PCG64(UNTRAINED_SEED))
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if len(shape) == 1:
            variable.assign(np.zeros(shape, np.float32))
            continue
        limit = np.float32(np.sqrt(6.0 / np.prod(shape[:-1])))
        values = generator.random(shape, dtype=np.float32)
        values -= np.float32(0.5)
        values *= 2 * limit
        variable.assign(values)


def _weights_digest(model: keras.Model) -> str:
    """Of the values, not of the file: the same weights from another file are the same model."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value, np.float32).data)
    return digest.hexdigest()


def _keras_file(path: Path) -> tuple[keras.Model, ModelSpec]:
    import keras

    try:
        with _nothing_skipped():
            model = keras.saving.load_model(path, compile=False)
    except _LOAD_ERRORS as error:
        raise ModelError(f"{path} cannot be loaded as a Keras model: {error}") from error
    shapes = (model.input_shape, model.output_shape)
    if not all(isinstance(shape, tuple) for shape in shapes) or len(shapes[0]) != 4 or len(shapes[1]) != 2:
        raise ModelError(f"{path} must map images (n, height, width, 3) to vectors (n, d); it maps {shapes}.")
    _, height, width, channels = model.input_shape
    if channels != 3 or model.output_shape[1] is None:
        raise ModelError(f"{path} must map images of 3 channels to vectors of a fixed length; it maps {shapes}.")
    spec = ModelSpec(
        architecture=path.stem,
        layer=model.layers[-1].name,
        weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        preprocessing="bicubic-rgb-255/1",
        dimension=int(model.output_shape[1]),
        input_size=(height or 224, width or 224),
        trained=True,
    )
    return model, spec
