"""TensorFlow, in float32 or bfloat16.

A part of `benchmarks.bench_runtimes`:

    python -m benchmarks.runtimes.with_tensorflow FOLDER PRECISION THREADS SECONDS
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.runtimes.passes import Matrix, Run, measure
from workers.network.keras_models import set_untrained_weights


def fc1_model(policy: str) -> keras.Model:
    """VGG16 up to fc1, untrained."""
    keras.config.set_dtype_policy(policy)
    whole = keras.applications.VGG16(weights=None)
    set_untrained_weights(whole)
    return keras.Model(whole.inputs, whole.get_layer("fc1").output)


def main() -> None:
    """Measures."""
    folder, precision, threads, seconds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    models: list[keras.Model] = []

    def load(batch: int) -> Run:
        if not models:
            models.append(fc1_model(precision))

        @tf.function(input_signature=[tf.TensorSpec((batch, 224, 224, 3), tf.float32)])
        def run(pictures: tf.Tensor) -> tf.Tensor:
            return tf.cast(models[0](pictures, training=False), tf.float32)

        compiled = run.get_concrete_function()

        def pass_through(pictures: Matrix) -> Matrix:
            features: Matrix = compiled(tf.constant(pictures)).numpy()
            return features

        return pass_through

    measure(folder, load, seconds, "tensorflow-cpu")


if __name__ == "__main__":
    main()
