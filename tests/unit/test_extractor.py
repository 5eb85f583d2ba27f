"""The extractor against `keras.applications` itself, with the same weights."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from benchmarks.old_algorithm import OldAlgorithm
from common.errors import ModelError
from common.images import ImageDecoder
from common.settings import Settings
from common.weights import resolve_weights
from tests.pictures import photo
from workers.extractor import FeatureExtractor, load_extractor
from workers.network.keras_models import untrained_values

UNTRAINED_DIGEST = "22715a108cc0a2f8ee1fa7743f6ac3afe6acc458a633632f894b2c061267e0bf"
UNTRAINED = Settings(weights="untrained", precision="float32")


def decoder(settings: Settings, extractor: FeatureExtractor) -> ImageDecoder:
    return ImageDecoder.for_files(settings, extractor.spec.input_size)


@pytest.fixture(scope="module")
def vgg16() -> FeatureExtractor:
    return load_extractor(UNTRAINED, resolve_weights(UNTRAINED))


@pytest.fixture(scope="module")
def old_algorithm() -> OldAlgorithm:
    return OldAlgorithm(weights=None)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Pictures of several sizes as ordinary JPEG files."""
    paths = []
    for number, size in enumerate([(384, 256), (256, 384), (224, 224), (640, 100), (37, 51)]):
        paths.append(tmp_path / f"{number}.jpg")
        photo(number, size).save(paths[-1], quality=90)
    return paths


def features_of(settings: Settings, extractor: FeatureExtractor, paths: list[Path]) -> np.ndarray:
    decode = decoder(settings, extractor).decode
    return extractor.extract(np.stack([decode(path.read_bytes()).pixels for path in paths]))


def test_features_agree_with_the_algorithm_that_it_replaces(
    vgg16: FeatureExtractor, old_algorithm: OldAlgorithm, photos: list[Path]
) -> None:
    ours = features_of(Settings(), vgg16, photos)
    theirs = np.stack([old_algorithm.extract(Image.open(path)) for path in photos])
    assert ours.shape == (5, 4096)
    assert ours.dtype == np.float32
    np.testing.assert_array_less(0.9999, (ours * theirs).sum(axis=1))


def test_features_of_real_photos_agree_with_the_algorithm_that_it_replaces(
    vgg16: FeatureExtractor, old_algorithm: OldAlgorithm, assets: Path
) -> None:
    paths = [assets / "images" / "corel1k" / f"{number}.jpg" for number in range(0, 1000, 100)]
    ours = features_of(Settings(), vgg16, paths)
    theirs = np.stack([old_algorithm.extract(Image.open(path)) for path in paths])
    np.testing.assert_array_less(0.9999, (ours * theirs).sum(axis=1))


def test_a_feature_does_not_depend_on_its_batch(vgg16: FeatureExtractor) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (19, 224, 224, 3), dtype=np.uint8)
    together = vgg16.extract(pixels)
    alone = np.concatenate([vgg16.extract(pixels[row : row + 1]) for row in (0, 15, 16, 18)])
    np.testing.assert_allclose(together[[0, 15, 16, 18]], alone, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_no_pictures_give_no_features(vgg16: FeatureExtractor) -> None:
    assert vgg16.extract(np.zeros((0, 224, 224, 3), np.uint8)).shape == (0, 4096)


def small_model(path: Path, outputs: int = 6, scale: float = 1.0) -> Path:
    """A quick model with known arithmetic: the mean of each colour, repeated."""
    inputs = keras.Input((32, 48, 3))
    means = keras.layers.GlobalAveragePooling2D()(inputs)
    dense = keras.layers.Dense(outputs, use_bias=False, name="features")
    model = keras.Model(inputs, dense(means))
    dense.set_weights([np.tile(np.eye(3, dtype=np.float32) * scale, (1, outputs // 3 + 1))[:, :outputs]])
    model.save(path)
    return path


def load(path: Path) -> FeatureExtractor:
    settings = Settings(model=str(path), precision="float32")
    return load_extractor(settings, resolve_weights(settings))


def test_a_keras_file_gets_plain_rgb_values(tmp_path: Path) -> None:
    extractor = load(small_model(tmp_path / "means.keras"))
    pixels = np.zeros((1, 32, 48, 3), np.uint8)
    pixels[..., 0] = 200
    np.testing.assert_allclose(extractor.extract(pixels)[0], [2**-0.5, 0, 0, 2**-0.5, 0, 0], atol=1e-6)
    assert extractor.spec.name == "means/features"
    assert extractor.spec.input_size == (32, 48)
    assert extractor.spec.trained


def test_a_zero_feature_stays_zero(tmp_path: Path) -> None:
    extractor = load(small_model(tmp_path / "means.keras"))
    assert not extractor.extract(np.zeros((2, 32, 48, 3), np.uint8)).any()


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = small_model(tmp_path / "means.keras", scale=float("nan"))
    with pytest.raises(ModelError, match="no numbers"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.keras"
    path.write_bytes(content if content is not None else small_model(tmp_path / "good.keras").read_bytes()[:900])
    with pytest.raises(ModelError, match=r"broken\.keras"):
        load(path)


def test_a_file_with_code_in_it_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    inputs = keras.Input((32, 48, 3))
    means = keras.layers.GlobalAveragePooling2D()(inputs)
    coded = keras.layers.Lambda(lambda values, path=str(ran): (Path(path).touch(), values)[1], output_shape=(3,))
    keras.Model(inputs, coded(means)).save(tmp_path / "coded.keras")
    ran.unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"(?i)coded\.keras.*lambda"):
        load(tmp_path / "coded.keras")
    assert not ran.exists()


def test_a_model_without_vectors_is_refused(tmp_path: Path) -> None:
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)).save(tmp_path / "map.keras")
    with pytest.raises(ModelError, match="must map images"):
        load(tmp_path / "map.keras")


def test_models_that_differ_have_different_fingerprints(tmp_path: Path) -> None:
    first = load(small_model(tmp_path / "a.keras")).spec
    other = load(small_model(tmp_path / "b.keras", outputs=9)).spec
    assert first.fingerprint != other.fingerprint


def test_weights_without_the_top_layers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "notop.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save_weights(path)
    settings = Settings(weights=str(path), precision="float32")
    with pytest.raises(ModelError, match="top layers"):
        load_extractor(settings, resolve_weights(settings))


def test_a_weights_file_in_keras_layout_gives_the_same_features(
    tmp_path: Path, vgg16: FeatureExtractor, old_algorithm: OldAlgorithm
) -> None:
    from keras.src.legacy.saving import legacy_h5_format  # the layout of the file that Keras itself downloads

    h5py = pytest.importorskip("h5py")
    path = tmp_path / "own.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, old_algorithm.whole)
    settings = Settings(weights=str(path), precision="float32")
    extractor = load_extractor(settings, resolve_weights(settings))
    pixels = np.random.default_rng(2).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    np.testing.assert_allclose(extractor.extract(pixels), vgg16.extract(pixels), atol=1e-6)
    assert extractor.spec.trained
    assert extractor.spec.fingerprint != vgg16.spec.fingerprint


def test_untrained_weights_are_the_same_everywhere_and_always() -> None:
    shapes = [(3, 3, 3, 64), (64,), (500, 40), (40,)]
    model = SimpleNamespace(weights=[SimpleNamespace(shape=shape) for shape in shapes])
    values = list(untrained_values(model))
    assert [value.shape for value in values] == shapes
    assert {value.dtype for value in values} == {np.dtype(np.float32)}
    # Features in stores depend on every bit. That VGG16 has them: `test_vgg16_finds_every_picture_itself`, where one
    # process compares with the features of another.
    assert sha256(b"".join(value.tobytes() for value in values)).hexdigest() == UNTRAINED_DIGEST


def test_the_nine_orientations_of_one_photo_give_nearly_one_feature(assets: Path, settings: Settings) -> None:
    extractor = load(assets / "models" / "squeezenet_imagenet.keras")
    paths = [assets / "images" / "odd" / "exif" / f"Portrait_{number}.jpg" for number in range(9)]
    features = features_of(settings, extractor, paths)
    assert (features @ features.T).min() >= 0.955


def test_bfloat16_stays_close_to_float32(tmp_path: Path, assets: Path) -> None:
    path = assets / "models" / "squeezenet_imagenet.keras"
    paths = [assets / "images" / "corel1k" / f"{number}.jpg" for number in range(0, 1000, 100)]
    exact = features_of(Settings(), load(path), paths)
    settings = Settings(model=str(path), precision="bfloat16")
    rounded = features_of(Settings(), load_extractor(settings, resolve_weights(settings)), paths)
    assert (exact * rounded).sum(axis=1).min() >= 0.99
