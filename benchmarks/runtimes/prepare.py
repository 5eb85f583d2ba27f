"""Makes what the runtimes read: pictures, float32 features of them, a LiteRT file in int8, a SavedModel.

python -m benchmarks.runtimes.prepare FOLDER IMAGES
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.photos import photos_in
from benchmarks.runtimes.passes import BATCHES, CALIBRATION, INPUTS, REFERENCE
from benchmarks.runtimes.with_tensorflow import fc1_model

SAVED_MODEL, INT8_FILE = "saved_model", "int8.tflite"


def main() -> None:
    """Writes everything into the folder."""
    folder, images = Path(sys.argv[1]), Path(sys.argv[2])
    inputs = _inputs(images)
    np.save(folder / INPUTS, inputs)
    model = fc1_model("float32")
    np.save(folder / REFERENCE, model.predict(inputs, batch_size=16, verbose=0))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (folder / INT8_FILE).write_bytes(converter.convert())
    archive = keras.export.ExportArchive()
    archive.track(model)
    shape = tf.TensorSpec((None, 224, 224, 3), tf.float32, name="pictures")
    archive.add_endpoint("serve", fn=lambda pictures: model(pictures, training=False), input_signature=[shape])
    archive.write_out(str(folder / SAVED_MODEL), verbose=False)


def _inputs(images: Path) -> np.ndarray:
    """Photos from all over the folder, as VGG16 takes them."""
    photos = photos_in(images)
    count = CALIBRATION + BATCHES[-1]
    chosen = [photos[number * len(photos) // count] for number in range(count)]
    pixels = [np.asarray(Image.open(photo).resize((224, 224)).convert("RGB"), np.float32) for photo in chosen]
    mixed = np.random.default_rng(0).permutation(np.stack(pixels))
    return keras.applications.vgg16.preprocess_input(mixed)


if __name__ == "__main__":
    main()
