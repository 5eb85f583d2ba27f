from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import EmptyImage, ImageRejected, ImageTooLarge, UnsupportedImage
from common.images import ImageDecoder
from common.picture_headers import HeaderCheck, least_size
from common.settings import Settings
from tests.unit.helpers import encoded, noise, python_json

ImageDecoder.for_uploads(Settings())  # registers HEIC, which encoding below needs

PICTURE = noise(87, 61)
LARGE = noise(900, 700)
PADDED = {"AVIF": encoded(LARGE, "AVIF"), "HEIC": encoded(LARGE, "HEIF")}
FILES = {
    "JPEG": encoded(PICTURE, "JPEG"),
    "progressive JPEG": encoded(PICTURE, "JPEG", progressive=True, comment=b"x" * 60_000, exif=b"Exif\0\0" + b"y" * 50),
    "MPO": encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE]),
    "PNG": encoded(PICTURE),
    "GIF": encoded(PICTURE, "GIF"),
    "BMP": encoded(PICTURE, "BMP"),
    "WebP": encoded(PICTURE, "WEBP"),
    "lossless WebP": encoded(PICTURE, "WEBP", lossless=True),
    "animated WebP": encoded(PICTURE, "WEBP", save_all=True, append_images=[noise(87, 61, seed=1)]),
    "TIFF": encoded(PICTURE, "TIFF"),
    "big-endian TIFF": encoded(PICTURE.convert("L").convert("I").convert("I;16B"), "TIFF"),
    "BigTIFF": encoded(PICTURE, "TIFF", big_tiff=True),
    "old BMP": b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 87, 61, 1, 24),
    "top-down BMP": b"BM" + bytes(12) + struct.pack("<Iii", 40, 87, -61),
}


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_found_in_every_format(name: str) -> None:
    assert least_size(FILES[name]) == (87, 61)
    HeaderCheck(10**6, 87 * 61).check(FILES[name])
    with pytest.raises(ImageTooLarge, match="MAX_IMAGE_PIXELS") as caught:
        HeaderCheck(10**6, 87 * 61 - 1).check(FILES[name])
    assert (caught.value.actual, caught.value.limit) == (87 * 61, 87 * 61 - 1)


@pytest.mark.parametrize("name", PADDED)
def test_a_size_that_may_be_padded_is_a_little_less(name: str) -> None:
    width, height = least_size(PADDED[name]) or (0, 0)
    assert 700 < width <= 900
    assert 500 < height <= 700


def test_it_knows_what_the_decoder_knows(assets: Path) -> None:
    decoder = ImageDecoder((8, 8), max_bytes=10**9, max_pixels=50_000_000, bytes_setting="X")
    check = HeaderCheck(10**9, 50_000_000)
    compared, different = 0, list[str]()
    for path in sorted(path for path in (assets / "images" / "odd").rglob("*") if path.is_file()):
        data = path.read_bytes()
        try:
            with decoder._open(data) as image:
                size = image.size
        except ImageRejected:
            continue
        check.check(data)
        if (told := least_size(data)) is not None and size != told:
            different.append(path.name)
        compared += told is not None
    assert compared > 100
    assert len(different) < 10, different


@pytest.mark.parametrize("image_format", ["ICO", "PPM", "TGA", "JPEG2000", "PDF", "PCX"])
def test_other_formats_are_refused(image_format: str) -> None:
    with pytest.raises(UnsupportedImage):
        least_size(encoded(PICTURE, image_format))


@pytest.mark.parametrize("data", [b"text", b"<svg/>", b"a", b"RIFF1234WAVEfmt ", b"\0\0\0\x18ftypmp42", b"\xff\xd8"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        HeaderCheck(10**6, 10**6).check(data)


def test_empty_and_too_large_files_are_refused() -> None:
    check = HeaderCheck.for_uploads(Settings(max_upload_bytes=100))
    with pytest.raises(EmptyImage):
        check.check(b"")
    with pytest.raises(ImageTooLarge, match=r"101 bytes; at most 100 are accepted .*MAX_UPLOAD_BYTES"):
        check.check(b"x" * 101)


@pytest.mark.parametrize("name", [*FILES, *PADDED])
def test_cut_and_damaged_headers_are_left_to_a_worker(name: str) -> None:
    data = {**FILES, **PADDED}[name]
    whole = least_size(data)
    rng = np.random.default_rng(5)
    for length in range(24, min(len(data), 400), 7):
        assert least_size(data[:length]) in {None, whole}
    for _ in range(300):
        damaged = bytearray(data[:3000])
        for position in rng.integers(16, min(len(damaged), 400), 4):
            damaged[position] = rng.integers(256)
        size = least_size(bytes(damaged))
        assert size is None or min(size) >= 0


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xe0\0\2" * 1_000_000,
        b"\xff\xd8" + b"\xff" * 4_000_000,
        b"II*\0\x08\0\0\0\xff\xff" + b"\xfe\0\4\0\xff\xff\xff\x7f\0\0\0\0" * 65535,
        b"\0\0\0\x18ftypheic" + bytes(12) + (b"\0\0\0\x08free" * 1_000_000),
        b"\0\0\0\x0cftypavif\xff\xff\xff\xffmeta" + b"ispe" * 1_000_000,
    ],
    ids=["segments", "fill bytes", "tags", "boxes", "extents"],
)
def test_a_header_without_end_is_not_followed(data: bytes) -> None:
    looks = 0

    class Counted(bytes):
        def __getitem__(self, index: object) -> object:
            nonlocal looks
            looks += 1
            return super().__getitem__(index)  # type: ignore[index]

    least_size(Counted(data))
    assert looks < 10_000


def test_the_web_tier_has_no_decoder() -> None:
    code = "import json, sys, web\nweb.create_app\nprint(json.dumps([n for n in sys.modules if n in {'PIL', 'numpy'}]))"
    assert "PIL" not in python_json(code)
    assert Image.__name__ == "PIL.Image"
