from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.images import THUMBNAIL_PIXELS, DecodedImage, ImageDecoder
from common.messages import Crop
from tests.unit.helpers import encoded, noise


def decode(data: bytes, size: tuple[int, int] = (20, 20), crop: Crop | None = None) -> DecodedImage:
    decoder = ImageDecoder(size, max_bytes=10_000_000, max_pixels=5_000_000, bytes_setting="MAX_FILE_BYTES")
    return decoder.decode(data, crop)


def colour(image: Image.Image, image_format: str = "PNG", **options: object) -> tuple[int, ...]:
    """The colour that a picture of one colour is decoded to."""
    pixels = decode(encoded(image, image_format, **options)).pixels
    assert (pixels == pixels[0, 0]).all()
    return tuple(pixels[0, 0].tolist())


# --- what reaches the network ------------------------------------------------------------------------------------


def test_the_pixels_are_those_of_pillows_resize(assets: Path) -> None:
    photos = sorted((assets / "images" / "corel1k").glob("*.jpg"))[::50]
    assert len(photos) == 20
    for path in photos:
        with Image.open(path) as photo:
            expected = np.asarray(photo.resize((224, 224)).convert("RGB"))
        assert np.array_equal(decode(path.read_bytes(), (224, 224)).pixels, expected), path.name


def test_the_input_size_is_height_then_width() -> None:
    assert decode(encoded(noise(40, 30)), (10, 24)).pixels.shape == (10, 24, 3)


TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(9))
def test_every_exif_orientation_gives_the_same_upright_picture(orientation: int, image_format: str) -> None:
    upright = noise(40, 30)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(TRANSPOSED[orientation]) if orientation in TRANSPOSED else upright
    # 0 is no orientation at all.
    options = {"exif": exif} if orientation else {}
    options |= {"lossless": True} if image_format == "WEBP" else {}
    decoded = decode(encoded(stored, image_format, **options), (30, 40))
    assert (decoded.width, decoded.height) == (40, 30)
    assert np.array_equal(decoded.pixels, np.asarray(upright))
    assert Image.open(io.BytesIO(decoded.thumbnail)).size == (40, 30)


def test_real_photos_of_every_orientation_look_the_same(assets: Path) -> None:
    paths = sorted((assets / "images" / "odd" / "exif").glob("Portrait_*.jpg"))
    assert len(paths) == 9
    first, *others = [decode(path.read_bytes(), (64, 64)).pixels.astype(int) for path in paths]
    for other in others:
        assert np.abs(first - other).mean() < 3


@pytest.mark.filterwarnings("ignore")  # Pillow's own, about the EXIF data
def test_broken_exif_data_does_not_cost_the_picture() -> None:
    data = encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    assert decode(data).width == 40


def test_a_palette_is_resolved_before_resizing() -> None:
    # Indices 0 and 2 are black and white, 1 is pure red: a mean of indices would be red.
    image = Image.new("P", (40, 40))
    image.putpalette([0, 0, 0, 255, 0, 0, 255, 255, 255])
    image.putdata([0 if number % 2 else 2 for number in range(1600)])
    pixels = decode(encoded(image), (7, 7)).pixels.astype(int)
    assert np.ptp(pixels, axis=2).max() == 0, "a grey picture got a colour"


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
@pytest.mark.parametrize(("sample", "expected"), [(0, 0), (257 * 40, 40), (32896, 128), (65535, 255), (300, 1)])
def test_16_bit_grey_is_scaled_not_clipped(sample: int, expected: int, image_format: str) -> None:
    image = Image.fromarray(np.full((30, 40), sample, np.uint16))
    assert colour(image, image_format) == (expected,) * 3


def test_16_bit_grey_keeps_its_gradient() -> None:
    ramp = np.linspace(0, 65535, 200).astype(np.uint16)
    decoded = decode(encoded(Image.fromarray(np.tile(ramp, (50, 1)))), (50, 200)).pixels
    assert np.array_equal(decoded[25, :, 0], np.rint(ramp / 257).astype(np.uint8))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.full((9, 9), 0.5, np.float32), 128),
        (np.full((9, 9), 100.0, np.float32), 100),
        (np.full((9, 9), 32768, np.int32), 128),
        (np.full((9, 9), 200, np.int32), 200),
        (np.full((9, 9), -5.0, np.float32), 0),
        (np.full((9, 9), np.nan, np.float32), 0),
    ],
    ids=["0 to 1", "0 to 255", "32 bits", "32 bits, small", "negative", "not a number"],
)
def test_float_and_32_bit_samples_are_scaled(samples: np.ndarray, expected: int) -> None:
    assert colour(Image.fromarray(samples), "TIFF") == (expected,) * 3


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("LA", (0, 0), (255, 255, 255)),
        ("LA", (70, 255), (70, 70, 70)),
        ("L", 90, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("1", 0, (0, 0, 0)),
    ],
)
def test_every_mode_comes_out_as_rgb_on_white(mode: str, value: object, expected: tuple[int, ...]) -> None:
    assert colour(Image.new(mode, (30, 20), value)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["P", "RGB", "L", "1"])
def test_a_transparent_colour_is_laid_on_white(mode: str) -> None:
    image = Image.new(mode, (30, 20), 0)
    transparent = (0, 0, 0) if mode == "RGB" else 0
    assert colour(image, transparency=transparent) == (255, 255, 255)


def test_transparency_leaves_no_hidden_colours_behind() -> None:
    image = Image.new("RGBA", (30, 20), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 15, 20))
    pixels = decode(encoded(image), (20, 30)).pixels
    assert pixels[10, 2].tolist() == [0, 0, 255]
    assert pixels[10, 27].tolist() == [255, 255, 255]
    # Between the two lie only mixtures of blue and white.
    assert (pixels[..., 2] == 255).all()


@pytest.mark.parametrize(
    ("inks", "expected"),
    [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0))],
)
@pytest.mark.parametrize("image_format", ["TIFF", "JPEG"])
def test_cmyk_becomes_the_colours_it_prints(inks: object, expected: tuple[int, ...], image_format: str) -> None:
    image = Image.new("CMYK", (32, 32), inks)  # type: ignore[arg-type]
    assert np.abs(np.subtract(colour(image, image_format), expected)).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "I", "F"])
def test_large_pictures_are_converted_strip_by_strip_without_a_trace(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode in {"I;16", "I", "F"}:
        samples = np.random.default_rng(0).random((60, 40)) * 70_000
        image = Image.fromarray(samples.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        image = noise(40, 60).convert("RGBA")
        image.putalpha(noise(40, 60, seed=1).convert("L"))
        image = image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)
    options = {"transparency": 3} if mode == "P" else {}
    data = encoded(image, "TIFF" if mode in {"I", "F"} else "PNG", **options)
    whole = decode(data, (60, 40)).pixels
    monkeypatch.setattr("common.conversion._STRIP_PIXELS", 7 * 40)
    assert np.array_equal(decode(data, (60, 40)).pixels, whole)


# --- crop and thumbnail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        ((0, 0, 1, 1), (0, 0, 100, 50)),
        ((0.25, 0.5, 0.75, 1), (25, 25, 75, 50)),
        ((0.101, 0.11, 0.201, 0.21), (10, 5, 21, 11)),  # whole pixels, outwards
        ((0.5, 0.5, 0.5, 0.5), (50, 25, 51, 26)),  # at least one pixel
        ((1, 1, 1, 1), (99, 49, 100, 50)),
        ((0.6, 0.6, 0.2, 0.2), (60, 30, 61, 31)),
    ],
)
def test_a_crop_is_cut_from_the_upright_picture(crop: Crop, box: tuple[int, int, int, int]) -> None:
    image = noise(100, 50)
    expected = np.asarray(image.crop(box).resize((20, 20)))
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (encoded(image), encoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif)):
        decoded = decode(data, crop=crop)
        assert np.array_equal(decoded.pixels, expected)
        assert (decoded.width, decoded.height) == (100, 50)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1000, 500), (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS // 2)),
        ((500, 1000), (THUMBNAIL_PIXELS // 2, THUMBNAIL_PIXELS)),
        ((1024, 683), (THUMBNAIL_PIXELS, 213)),
        ((401, 300), (THUMBNAIL_PIXELS, 239)),
        ((400, 300), (400, 300)),  # hardly larger: as it is
        ((20, 10), (20, 10)),
        ((4000, 1), (THUMBNAIL_PIXELS, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_a_thumbnail_fits_and_keeps_its_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(decode(encoded(Image.new("RGB", size))).thumbnail)) as small:
        assert small.format == "JPEG"
        assert small.size == expected


def test_a_thumbnail_looks_like_a_careful_reduction(assets: Path) -> None:
    for path in sorted((assets / "images" / "corel1k").glob("*.jpg"))[::200]:
        with Image.open(path) as photo:
            large = photo.resize((1536, 1024), Image.Resampling.BICUBIC)
        careful = np.asarray(large.resize((320, 213), Image.Resampling.BICUBIC)).astype(float)
        with Image.open(io.BytesIO(decode(encoded(large, "BMP")).thumbnail)) as small:
            error = ((np.asarray(small) - careful) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 30, "worse than JPEG itself makes it"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_thumbnail_has_the_colours_of_the_picture(mode: str) -> None:
    data = encoded(Image.new("RGB", (50, 50), (200, 200, 200)).convert(mode), "TIFF")
    with Image.open(io.BytesIO(decode(data).thumbnail)) as small:
        assert np.abs(np.asarray(small.convert("RGB")).astype(int) - 200).max() <= 2


def test_no_thumbnail_is_made_unless_it_is_wanted() -> None:
    decoder = ImageDecoder((8, 8), max_bytes=10_000, max_pixels=10_000, bytes_setting="X")
    assert decoder.decode(encoded(noise()), thumbnail=False).thumbnail == b""
