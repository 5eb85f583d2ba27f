"""Models that tests make for themselves."""

from __future__ import annotations

from pathlib import Path


def save_fast_model(folder: Path) -> Path:
    """Writes a small network with seeded weights as a `.keras` file: hundreds of pictures a second on any machine."""
    import keras  # TensorFlow: only where a test needs it

    keras.utils.set_random_seed(7)
    inputs = keras.Input((64, 64, 3))
    hidden = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    hidden = keras.layers.Conv2D(16, 5, strides=2, activation="relu")(hidden)
    hidden = keras.layers.Conv2D(32, 3, strides=2, activation="relu")(hidden)
    hidden = keras.layers.AveragePooling2D(4)(hidden)
    model = keras.Model(inputs, keras.layers.Flatten(name="features")(hidden))
    path = folder / "small.keras"
    model.save(path)
    return path
