"""Good picture files, and what can be done to them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from common.images import ImageDecoder
from common.settings import Settings
from tests.pictures import photo
from tests.unit.helpers import encoded

# Larger files make fuzzing slow, and hardly tell more.
_MOST_BYTES = 200_000
_PHOTOS = 20
# What parsers trip over: edges of the integer types.
_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def made_files() -> dict[str, bytes]:
    """Files of every supported format, by name."""
    ImageDecoder.for_uploads(Settings())  # registers HEIC
    image, small = photo(1, (160, 120)), photo(2, (48, 36))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "camera"
    others = [photo(seed, (48, 36)) for seed in (3, 4)]
    return {
        "jpeg": encoded(image, "JPEG", exif=exif, icc_profile=b"profile" * 50, comment=b"a comment"),
        "progressive-jpeg": encoded(image, "JPEG", progressive=True, subsampling=0),
        "cmyk-jpeg": encoded(small.convert("CMYK"), "JPEG"),
        "mpo": encoded(small, "MPO", save_all=True, append_images=others),
        "png": encoded(image, "PNG", exif=exif, icc_profile=b"profile" * 50),
        "palette-png": encoded(small.quantize(32), "PNG", transparency=3),
        "rgba-png": encoded(small.convert("RGBA"), "PNG"),
        "apng": encoded(small, "PNG", save_all=True, append_images=others),
        "16-bit-png": encoded(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), "PNG"),
        "webp": encoded(image, "WEBP", exif=exif),
        "lossless-webp": encoded(small.convert("RGBA"), "WEBP", lossless=True),
        "animated-webp": encoded(small, "WEBP", save_all=True, append_images=others),
        "gif": encoded(small.quantize(64), "GIF", transparency=2),
        "animated-gif": encoded(small, "GIF", save_all=True, append_images=others, duration=50),
        "bmp": encoded(small, "BMP"),
        "palette-bmp": encoded(small.quantize(16), "BMP"),
        "tiff": encoded(small, "TIFF"),
        "lzw-tiff": encoded(image, "TIFF", compression="tiff_lzw", exif=exif),
        "deflate-tiff": encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg-tiff": encoded(image, "TIFF", compression="jpeg"),
        "group4-tiff": encoded(small.convert("1"), "TIFF", compression="group4"),
        "float-tiff": encoded(small.convert("F"), "TIFF"),
        "avif": encoded(image, "AVIF", exif=exif),
        "rgba-avif": encoded(small.convert("RGBA"), "AVIF"),
        "animated-avif": encoded(small, "AVIF", save_all=True, append_images=others),
        "heic": encoded(image, "HEIF", exif=exif.tobytes()),
    }


def found_files(images: Path) -> dict[str, bytes]:
    """Real photos and odd files, where there are any."""
    odd = sorted(path for path in (images / "odd").rglob("*") if path.is_file())
    photos = [path for path in sorted(images.rglob("*.jpg")) if images / "odd" not in path.parents]
    step = max(1, len(photos) // _PHOTOS)
    paths = [path for path in [*odd, *photos[::step]] if path.stat().st_size <= _MOST_BYTES]
    return {path.relative_to(images).as_posix(): path.read_bytes() for path in paths}


def mutated(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """The file after one to three mutations, which follow from the generator."""
    for _ in range(int(rng.integers(1, 4))):
        data = _MUTATIONS[int(rng.integers(len(_MUTATIONS)))](data, rng, others)
    return data


def _flip_bits(data: bytes, rng: np.random.Generator, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for position in rng.integers(0, max(1, len(data)), int(rng.integers(1, 20))):
        if position < len(changed):
            changed[position] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _change_header(data: bytes, rng: np.random.Generator, _: Sequence[bytes]) -> bytes:
    """Puts an edge of an integer type somewhere into the first bytes, where sizes, counts and offsets are."""
    changed = bytearray(data)
    kind = [">H", "<H", ">I", "<I", "B"][int(rng.integers(5))]
    value = _EDGES[int(rng.integers(len(_EDGES)))] & (256 ** struct.calcsize(kind) - 1)
    position = int(rng.integers(4, max(5, min(len(data), 600))))
    changed[position : position + struct.calcsize(kind)] = struct.pack(kind, value)
    return bytes(changed)


def _truncate(data: bytes, rng: np.random.Generator, _: Sequence[bytes]) -> bytes:
    return data[: int(rng.integers(0, len(data) + 1))]


def _append(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """A second file behind the first: a polyglot."""
    return data + others[int(rng.integers(len(others)))]


def _piece(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(0, len(data) + 1))
    return start, min(len(data), start + int(rng.integers(1, 2000)))


def _repeat(data: bytes, rng: np.random.Generator, _: Sequence[bytes]) -> bytes:
    start, end = _piece(data, rng)
    return data[:end] + data[start:end] * int(rng.integers(1, 30)) + data[end:]


def _remove(data: bytes, rng: np.random.Generator, _: Sequence[bytes]) -> bytes:
    start, end = _piece(data, rng)
    return data[:start] + data[end:]


def _splice(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    other = others[int(rng.integers(len(others)))]
    start, end = _piece(other, rng)
    at, until = _piece(data, rng)
    return data[:at] + other[start:end] + data[until:]


def _zero(data: bytes, rng: np.random.Generator, _: Sequence[bytes]) -> bytes:
    start, end = _piece(data, rng)
    return data[:start] + bytes([(0, 255)[int(rng.integers(2))]]) * (end - start) + data[end:]


def _mend_png(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """Changes a PNG and makes its checksums right again: else hardly a change would get past them."""
    data = _change_header(_flip_bits(data, rng, others), rng, others)
    mended, position = bytearray(data), 8
    while data.startswith(b"\x89PNG") and position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(mended)


_Mutation = Callable[[bytes, np.random.Generator, Sequence[bytes]], bytes]
_MUTATIONS: tuple[_Mutation, ...] = (
    _flip_bits, _change_header, _change_header, _truncate, _append, _repeat, _remove, _splice, _zero, _mend_png,
)  # fmt: skip
