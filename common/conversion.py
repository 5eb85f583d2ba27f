"""Brings a decoded picture, whatever its mode, upright to RGB, L or CMYK with 8 bits a sample.

What needs more room than the picture itself is done strip by strip: at 100 megapixels a copy is 400 MB.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

_STRIP_PIXELS = 1_000_000

# What each EXIF orientation undoes. 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[int, int, int, int]


def upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation; the same object if there is nothing to do."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - broken EXIF data must not cost the picture
        return image
    return image if turn is None else image.transpose(turn)


def eight_bit(image: Image.Image) -> Image.Image:
    """Scales samples of 16 and 32 bits and floats to 8 bits; Pillow's own conversion would clip them to white."""
    if not image.mode.startswith(("I", "F")):
        return image
    scale = _scale(image)
    grey = Image.new("L", image.size)
    for box in _strips(image.size):
        samples = np.clip(np.rint(_samples(image, box) * scale), 0, 255).astype(np.uint8)
        grey.paste(Image.fromarray(samples, "L"), box)
    return grey


def without_alpha(image: Image.Image) -> Image.Image:
    """Lays transparency on white; modes other than RGB, L and CMYK become RGB."""
    if not ("A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info):
        return image if image.mode in {"RGB", "L", "CMYK"} else image.convert("RGB")
    opaque = Image.new("RGB", image.size)
    for box in _strips(image.size):
        part = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", part.size, "white")
        opaque.paste(Image.alpha_composite(white, part).convert("RGB"), box)
    return opaque


def _strips(size: tuple[int, int]) -> Iterator[Box]:
    """Boxes of whole rows that cover a picture."""
    width, height = size
    rows = max(1, _STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _samples(image: Image.Image, box: Box) -> npt.NDArray[np.float64]:
    samples = np.asarray(image.crop(box)).astype(np.float64)
    return np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _scale(image: Image.Image) -> float:
    """The factor that brings the samples to 0 to 255."""
    if image.mode.startswith("I;16"):
        return 1 / 257
    highest = max(float(_samples(image, box).max()) for box in _strips(image.size))
    if highest > 255:
        return 255 / max(65535, highest)
    return 255.0 if image.mode == "F" and highest <= 1 else 1.0
