"""The one decoder, for indexing and for queries: bytes in, upright RGB at the model's size out.

The pixels that reach the network are those of Pillow's own `resize` (bicubic) followed by a conversion to RGB.
It differs from that plain recipe on purpose where the recipe goes wrong: EXIF orientation is applied, palettes
are resolved before resizing, 16-bit and float samples are scaled to 8 bits, and transparency is laid on white.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from pillow_heif import register_heif_opener

from common.errors import DamagedImage, EmptyImage, ImageRejected, ImageTooLarge, UnsupportedImage
from common.messages import Crop
from common.settings import Settings

# Decided by the file's first bytes, never by its name.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")

# Names that make a file a picture for the scan. Some are formats that are not supported: those files are listed
# as failed with that reason, instead of being left out without a word.
# fmt: off
EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".avif", ".avifs", ".heic", ".heif", ".hif",
    ".jp2", ".j2k", ".jpx", ".jxl", ".tga", ".dds", ".psd", ".ico", ".icns", ".qoi", ".pcx", ".ppm", ".pgm", ".pbm",
    ".pnm", ".xbm", ".xpm", ".exr", ".hdr",
})
# fmt: on

THUMBNAIL_PIXELS = 320
THUMBNAIL_QUALITY = 80

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture, ready for the network: (h, w, 3) uint8, the size of the upright original, a JPEG thumbnail."""

    pixels: Pixels
    width: int
    height: int
    thumbnail: bytes


class ImageDecoder:
    """Decodes pictures within limits. One instance may serve any number of threads.

    Args:
        input_size: Height and width that the model wants.
        max_bytes: Largest encoded picture.
        max_pixels: Largest picture, in pixels; checked before anything is decoded.
        bytes_setting: The setting that `max_bytes` comes from, for the message.
    """

    def __init__(self, input_size: tuple[int, int], *, max_bytes: int, max_pixels: int, bytes_setting: str) -> None:
        self._size = input_size
        self.max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._bytes_setting = bytes_setting
        register_heif_opener()
        # Some plugins learn the size only while decoding: beyond the limit Pillow must not just warn.
        Image.MAX_IMAGE_PIXELS = max_pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)

    @classmethod
    def for_files(cls, settings: Settings, input_size: tuple[int, int]) -> ImageDecoder:
        """With the limits for files of the library."""
        return cls(
            input_size,
            max_bytes=settings.max_file_bytes,
            max_pixels=settings.max_image_pixels,
            bytes_setting="MAX_FILE_BYTES",
        )

    @classmethod
    def for_uploads(cls, settings: Settings, input_size: tuple[int, int] = (1, 1)) -> ImageDecoder:
        """With the limits for uploaded pictures."""
        return cls(
            input_size,
            max_bytes=settings.max_upload_bytes,
            max_pixels=settings.max_image_pixels,
            bytes_setting="MAX_UPLOAD_BYTES",
        )

    def check(self, data: bytes) -> None:
        """Looks at the header only: cheap enough for the web tier.

        Raises:
            ImageRejected: Empty, too large, or in no supported format.
        """
        self._open(data).close()

    def decode(self, data: bytes, crop: Crop | None = None, *, thumbnail: bool = True) -> DecodedImage:
        """Decodes a picture.

        Args:
            data: The bytes of the file.
            crop: Use only this part of the upright picture.
            thumbnail: Whether to make one; otherwise it is empty.

        Raises:
            ImageRejected: The reason is its message.
        """
        image = self._load(data)
        width, height = image.size
        small = make_thumbnail(image) if thumbnail else b""
        if crop is not None:
            image = image.crop(_crop_box(crop, width, height))
        resized = image.resize((self._size[1], self._size[0])).convert("RGB")
        return DecodedImage(np.asarray(resized, dtype=np.uint8), width, height, small)

    def _open(self, data: bytes) -> Image.Image:
        if not data:
            raise EmptyImage
        if len(data) > self.max_bytes:
            raise ImageTooLarge("bytes", len(data), self.max_bytes, self._bytes_setting)
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise UnsupportedImage from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageTooLarge("pixels", _bomb_pixels(error), self._max_pixels, "MAX_IMAGE_PIXELS") from error
        except ImageRejected:
            raise
        except Exception as error:  # damaged files raise whatever the plugin stumbles over
            raise DamagedImage(error) from error
        if image.width * image.height > self._max_pixels:
            raise ImageTooLarge("pixels", image.width * image.height, self._max_pixels, "MAX_IMAGE_PIXELS")
        return image

    def _load(self, data: bytes) -> Image.Image:
        """Decodes to an upright picture in mode RGB, L or CMYK."""
        image = self._open(data)
        try:
            image.load()
            return _without_alpha(_eight_bit(_upright(image)))
        except ImageRejected:
            raise
        except Exception as error:
            raise DamagedImage(error or type(error).__name__) from error


def make_thumbnail(image: Image.Image) -> bytes:
    """A JPEG of at most `THUMBNAIL_PIXELS` on the longer side."""
    small = image.convert("RGB") if image.mode != "RGB" else image.copy()
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def _crop_box(crop: Crop, width: int, height: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = crop
    x, y = min(int(left * width), width - 1), min(int(top * height), height - 1)
    return x, y, max(x + 1, math.ceil(right * width)), max(y + 1, math.ceil(bottom * height))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - broken EXIF data must not cost the picture
        return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scales samples of 16 and 32 bits and floats to 8 bits; Pillow's own conversion would clip them to white."""
    if not image.mode.startswith(("I", "F")):
        return image
    samples = np.asarray(image).astype(np.float64)
    samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode.startswith("I;16"):
        samples /= 257.0
    elif samples.max() > 255:
        samples *= 255.0 / max(65535.0, samples.max())
    elif image.mode == "F" and samples.max() <= 1:
        samples *= 255.0
    return Image.fromarray(np.clip(np.rint(samples), 0, 255).astype(np.uint8), "L")


def _without_alpha(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode in {"RGB", "L", "CMYK"} else image.convert("RGB")


def _bomb_pixels(error: BaseException) -> int:
    digits = [int(word.strip("()")) for word in str(error).split() if word.strip("()").isdigit()]
    return digits[0] if digits else 0
