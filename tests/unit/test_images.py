from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from common.errors import DamagedImage, EmptyImage, ImageRejected, ImageTooLarge, UnsupportedImage
from common.images import DecodedImage, ImageDecoder
from common.settings import Settings
from tests.unit.helpers import encoded, noise


def decoder_of(
    size: tuple[int, int] = (20, 20), max_bytes: int = 10_000_000, max_pixels: int = 5_000_000
) -> ImageDecoder:
    return ImageDecoder(size, max_bytes=max_bytes, max_pixels=max_pixels, bytes_setting="MAX_FILE_BYTES")


def decode(data: bytes, size: tuple[int, int] = (20, 20)) -> DecodedImage:
    return decoder_of(size).decode(data)


def two_halves(left: str, right: str, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """A picture whose left and right halves have a colour each."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def animation(first: Image.Image, image_format: str) -> bytes:
    others = [Image.new("RGB", first.size, "blue")] * 2
    return encoded(first, image_format, save_all=True, append_images=others, duration=50)


FORMATS = {
    "JPEG": lambda image: encoded(image, "JPEG", quality=95, subsampling=0),
    "progressive JPEG": lambda image: encoded(image, "JPEG", quality=95, progressive=True, subsampling=0),
    "MPO": lambda image: encoded(image, "MPO", save_all=True, append_images=[image], quality=95),
    "PNG": lambda image: encoded(image, "PNG"),
    "APNG": lambda image: animation(image, "PNG"),
    "WebP": lambda image: encoded(image, "WEBP", lossless=True),
    "animated WebP": lambda image: animation(image, "WEBP"),
    "GIF": lambda image: encoded(image.quantize(16), "GIF"),
    "animated GIF": lambda image: animation(image.quantize(16).convert("RGB"), "GIF"),
    "BMP": lambda image: encoded(image, "BMP"),
    "TIFF": lambda image: encoded(image, "TIFF"),
    "compressed TIFF": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "AVIF": lambda image: encoded(image, "AVIF", quality=95),
    "HEIC": lambda image: encoded(image, "HEIF", quality=95),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_decodes_its_first_picture(name: str) -> None:
    image = two_halves("red", "lime")
    decoder = decoder_of()  # registers HEIC, which the encoder below needs
    decoded = decoder.decode(FORMATS[name](image))
    assert (decoded.width, decoded.height) == (80, 60)
    assert decoded.pixels.shape == (20, 20, 3)
    assert decoded.pixels.dtype == np.uint8
    assert np.abs(decoded.pixels[10, 2].astype(int) - (255, 0, 0)).max() <= 12
    assert np.abs(decoded.pixels[10, 17].astype(int) - (0, 255, 0)).max() <= 12


@pytest.mark.parametrize("image_format", ["ICO", "PPM", "TGA", "JPEG2000", "PDF", "PCX"])
def test_other_formats_are_named_as_unsupported(image_format: str) -> None:
    with pytest.raises(UnsupportedImage, match="supported format"):
        decode(encoded(noise(32, 32), image_format))


@pytest.mark.parametrize(
    "data", [b"Dear diary, today", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0" * 4096, b"%PDF-1.7\n", b"a"]
)
def test_what_is_no_picture_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        decode(data)


def test_an_empty_file_is_said_to_be_empty() -> None:
    with pytest.raises(EmptyImage):
        decode(b"")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_rejected(image_format: str, part: float) -> None:
    data = encoded(noise(120, 90), image_format)
    with pytest.raises(ImageRejected):
        decode(data[: int(len(data) * part)])


def test_a_damaged_file_says_why() -> None:
    data = bytearray(encoded(noise(120, 90)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DamagedImage, match=r"damaged and cannot be decoded: .+"):
        decode(bytes(data))


# --- previews --------------------------------------------------------------------------------------------------


def preview(data: bytes, **limits: int) -> Image.Image:
    image = Image.open(io.BytesIO(decoder_of(max_pixels=50_000_000, **limits).preview(data)))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    return image


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_preview_of_its_own_size(name: str) -> None:
    decoder_of()  # registers HEIC, which the encoder below needs
    image = preview(FORMATS[name](two_halves("red", "lime")))
    assert image.size == (80, 60)
    assert np.abs(np.subtract(image.getpixel((10, 30)), (255, 0, 0))).max() <= 12
    assert np.abs(np.subtract(image.getpixel((70, 30)), (0, 255, 0))).max() <= 12


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "expected"),
    [((2600, 1300), (1024, 512)), ((1500, 4800), (320, 1024)), ((1024, 1000), (1024, 1000)), ((9000, 2), (1024, 1))],
)
def test_a_preview_is_reduced_and_keeps_its_proportions(
    image_format: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert preview(encoded(two_halves("red", "lime", size), image_format)).size == expected


def test_a_preview_is_upright_and_shows_nothing_of_its_camera() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was turned: what it took as the left side is on top
    exif[ExifTags.Base.Make] = "camera"
    image = preview(encoded(two_halves("red", "lime", (2000, 1000)), "JPEG", exif=exif))
    assert image.size == (512, 1024)
    assert np.abs(np.subtract(image.getpixel((256, 100)), (255, 0, 0))).max() <= 12
    assert np.abs(np.subtract(image.getpixel((256, 900)), (0, 255, 0))).max() <= 12
    assert dict(image.getexif()) == {}


def test_what_cannot_be_decoded_has_no_preview() -> None:
    whole = encoded(noise(1200, 900), "JPEG")
    with pytest.raises(ImageRejected):
        preview(b"text")
    with pytest.raises(ImageRejected):
        preview(whole[: len(whole) // 2])
    with pytest.raises(ImageTooLarge):
        preview(whole, max_bytes=1000)


# --- limits ----------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, and has almost no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (3000, 2000), (2_000_000, 5)])
def test_too_many_pixels_are_refused_before_decoding(width: int, height: int) -> None:
    for call in (decoder_of().decode, decoder_of().preview):
        with pytest.raises(ImageTooLarge, match="IMAGESEARCH_MAX_IMAGE_PIXELS") as caught:
            call(png_header(width, height))
        assert caught.value.actual == width * height
        assert caught.value.limit == 5_000_000


def test_the_limits_themselves_are_accepted() -> None:
    data = encoded(noise(50, 40))
    assert decoder_of(max_bytes=len(data), max_pixels=2000).decode(data).width == 50
    with pytest.raises(ImageTooLarge, match=r"2,000 pixels; at most 1,999 are accepted"):
        decoder_of(max_pixels=1999).decode(data)
    with pytest.raises(ImageTooLarge, match="IMAGESEARCH_MAX_FILE_BYTES") as caught:
        decoder_of(max_bytes=len(data) - 1).decode(data)
    assert (caught.value.actual, caught.value.limit) == (len(data), len(data) - 1)


def test_uploads_and_files_have_limits_of_their_own() -> None:
    settings = Settings(max_upload_bytes=10, max_file_bytes=20)
    with pytest.raises(ImageTooLarge, match=r"at most 10 .*MAX_UPLOAD_BYTES"):
        ImageDecoder.for_uploads(settings).decode(b"x" * 30)
    with pytest.raises(ImageTooLarge, match=r"at most 20 .*MAX_FILE_BYTES"):
        ImageDecoder.for_files(settings, (8, 8)).decode(b"x" * 30)


# --- files that broke decoders before ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # Pillow's own, for odd files: pytest would turn them into errors
def test_every_odd_file_decodes_or_is_rejected(assets: Path) -> None:
    files = sorted(path for path in (assets / "images" / "odd" / "pillow").iterdir() if path.is_file())
    assert len(files) > 200
    decoder = decoder_of((32, 32), max_pixels=50_000_000)
    decoded, rejected = 0, 0
    for path in files:
        data = path.read_bytes()
        try:
            image = decoder.decode(data)
        except ImageRejected:
            rejected += 1
        else:
            assert image.pixels.shape == (32, 32, 3), path.name
            assert image.thumbnail.startswith(b"\xff\xd8"), path.name
            decoded += 1
    assert decoded > 150
    assert rejected > 10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_bytes_are_never_another_error(name: str) -> None:
    rng = np.random.default_rng(7)
    decoder = decoder_of()
    data = FORMATS[name](noise(24, 18))
    for _ in range(40):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            damaged[position] = rng.integers(256)
        with suppress(ImageRejected):
            assert decoder.decode(bytes(damaged)).pixels.shape == (20, 20, 3)
