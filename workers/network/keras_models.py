"""Loads Keras models: VGG16 up to fc1, or any file that maps RGB images to vectors."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.errors import ModelError
from common.models import ModelSpec
from common.weights import WeightsStatus

if TYPE_CHECKING:
    import keras

# The untrained weights are the same on every host: they follow from this seed alone.
UNTRAINED_SEED = 20_160_905
VGG16 = "vgg16"

_LOAD_ERRORS = (ValueError, OSError, TypeError, KeyError, UserWarning)
# fc1 has 25,088 rows, 411 MB. TensorFlow keeps the memory of what it copied, so it is to copy little at a time.
_ROWS = 2048
_Values = Iterable[npt.NDArray[np.float32]]


def load_model(name: str, weights: WeightsStatus, dtype: str = "float32") -> tuple[keras.Model, ModelSpec]:
    """Loads a model.

    Args:
        name: `vgg16` or the path of a `.keras` file, as in the settings.
        weights: Where VGG16's weights are.
        dtype: `float32` or `bfloat16`: of the weights and of the arithmetic.

    Returns:
        The model, from (n, h, w, 3) float32 to (n, d), and what its features are.

    Raises:
        ModelError: A file cannot be loaded, or does not fit.
    """
    if name == VGG16:
        return _vgg16(Path(weights.path) if weights.path else None, dtype)
    model, spec = _keras_file(Path(name))
    return (model if dtype == "float32" else _in_bfloat16(model)), spec


def _vgg16(weights: Path | None, dtype: str) -> tuple[keras.Model, ModelSpec]:
    """VGG16 up to fc1 (Simonyan and Zisserman 2014, as in keras.applications)."""
    import keras

    with _dtype_policy(dtype):
        base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
        flat = keras.layers.Flatten(name="flatten")(base.output)
        # Zeros: random values would be made only to be replaced, and cost three times their memory.
        fc1 = keras.layers.Dense(4096, activation="relu", name="fc1", kernel_initializer="zeros")
        model = keras.Model(base.inputs, fc1(flat))
    digest = _assign(model, _weights_of(model, weights) if weights else untrained_values(model))
    spec = ModelSpec(
        architecture=VGG16,
        layer="fc1",
        weights_sha256=digest if weights else f"untrained-{UNTRAINED_SEED}",
        preprocessing="bicubic-224-caffe-bgr/1",
        dimension=4096,
        input_size=(224, 224),
        trained=weights is not None,
    )
    return model, spec


def _assign(model: keras.Model, values: _Values) -> str:
    """Sets all weights, one after the other because they are large.

    Returns:
        The SHA-256 of the values, not of the file: the same weights from another file are the same model.
    """
    import tensorflow as tf

    digest = hashlib.sha256()
    # Beside the copying: each of them takes half a second for VGG16.
    with ThreadPoolExecutor(max_workers=1) as hashing:
        for variable, value in zip(model.weights, values, strict=True):
            hashed = hashing.submit(digest.update, np.ascontiguousarray(value, np.float32).data)
            for start in range(0, len(value), _ROWS):
                rows = tf.cast(value[start : start + _ROWS], variable.dtype)
                # To assign to a slice would copy the whole variable each time.
                variable.value.scatter_update(tf.IndexedSlices(rows, tf.range(start, start + len(rows))))
            hashed.result()
    return digest.hexdigest()


def set_untrained_weights(model: keras.Model) -> None:
    """Gives a model, VGG16 up to any layer, the seeded untrained weights."""
    _assign(model, untrained_values(model))


def untrained_values(model: keras.Model) -> Iterator[npt.NDArray[np.float32]]:
    """Seeded weights, He-uniform (He et al. 2015), biases zero: bit by bit the same on every host.

    Made by NumPy in separate steps, because a framework's own initialisers may round differently on another
    processor.
    """
    generator = np.random.Generator(np.random.PCG64(UNTRAINED_SEED))
    for variable in model.weights:
        shape = tuple(variable.shape)
        if len(shape) == 1:
            yield np.zeros(shape, np.float32)
            continue
        limit = np.float32(np.sqrt(6.0 / np.prod(shape[:-1])))
        values = generator.random(shape, dtype=np.float32)
        values -= np.float32(0.5)
        values *= 2 * limit
        yield values


def _weights_of(model: keras.Model, path: Path) -> Iterator[npt.NDArray[np.float32]]:
    """The values for a model's weights from a file of the whole VGG16, in either of Keras's layouts."""
    import h5py
    import keras

    try:
        with h5py.File(path) as file:
            layers = file.get("model_weights", file)
            if "layer_names" in layers.attrs:
                for layer in model.layers:
                    yield from _layer_values(layers, layer)
                return
        whole = keras.applications.VGG16(weights=None)
        with _nothing_skipped():
            whole.load_weights(str(path))
    except _LOAD_ERRORS as error:
        raise ModelError(
            f"{path} does not hold the weights of VGG16 with its top layers, in Keras's layout: {error}"
        ) from error
    for layer in model.layers:
        yield from whole.get_layer(layer.name).get_weights() if layer.weights else ()


def _layer_values(layers: Any, layer: keras.layers.Layer) -> Iterator[npt.NDArray[np.float32]]:
    if not layer.weights:
        return
    group = layers[layer.name]
    names = group.attrs["weight_names"]
    for variable, name in zip(layer.weights, names, strict=True):
        value = group[name][()]
        if value.shape != tuple(variable.shape):
            raise ValueError(f"{layer.name} has weights of shape {value.shape}, not {tuple(variable.shape)}")
        yield value


@contextmanager
def _nothing_skipped() -> Iterator[None]:
    """Keras only warns of layers that a file has no weights for, and leaves random ones in them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        yield


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _keras_file(path: Path) -> tuple[keras.Model, ModelSpec]:
    import keras

    try:
        with _nothing_skipped():
            # Safe mode refuses Python code in the file, as Lambda layers have it.
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
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


def _in_bfloat16(model: keras.Model) -> keras.Model:
    """The same model with weights and arithmetic in bfloat16: a file fixes the type of each layer."""
    import keras

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config({**layer.get_config(), "dtype": "bfloat16"})

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
