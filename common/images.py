"""The one decoder, for indexing and for queries: bytes in, upright RGB at the model's size out.

The pixels that reach the network are those of Pillow's own `resize` (bicubic) followed by a conversion to RGB.
It differs from that plain recipe on purpose where the recipe goes wrong: EXIF orientation is applied, palettes
are resolved before resizing, 16-bit and float samples are scaled to 8 bits, and transparency is laid on white.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from common.conversion import eight_bit, upright, without_alpha
from common.errors import DamagedImage, EmptyImage, ImageRejected, ImageTooLarge, UnsupportedImage
from common.gate import Gate
from common.picture_headers import is_webp, least_size

if TYPE_CHECKING:
    # With pydantic, which takes as long to import as all the rest: a decoder process has no need of it.
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
# A picture up to a quarter larger than that is its own thumbnail: to resize it costs more than to encode it.
_SMALL_ENOUGH_PIXELS = 400
PREVIEW_PIXELS = 1024
PREVIEW_QUALITY = 85

# While it is decoded a picture takes 4 bytes a pixel, and as much again in some formats. Pictures of up to
# `LARGE_PIXELS` are decoded as they come; of larger ones so many at a time in each decoder, but at least one.
LARGE_PIXELS = 20_000_000
_LARGE_PIXELS_IN_FLIGHT = 120_000_000
# Pillow's own is 16 MiB, which the C library keeps for each thread when they are freed: gigabytes. It gives back
# blocks of more than 32 MiB.
_MEMORY_BLOCK_BYTES = 64 * 2**20

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture, ready for the network: (h, w, 3) uint8, the size of the upright original, a JPEG thumbnail."""

    pixels: Pixels
    width: int
    height: int
    thumbnail: bytes


class PictureDecoder(Protocol):
    """What decodes pictures: `ImageDecoder`, in this process, or what hands them to other processes.

    May be used from any thread.
    """

    @property
    def max_bytes(self) -> int:
        """Largest encoded picture."""

    def decode(self, data: bytes, crop: Crop | None = None, *, thumbnail: bool = True) -> DecodedImage:
        """See `ImageDecoder.decode`."""

    def preview(self, data: bytes) -> bytes:
        """See `ImageDecoder.preview`."""


class PixelGate(Protocol):
    """Bounds how many pixels are decoded at a time."""

    def hold(self, weight: int) -> AbstractContextManager[None]:
        """So many are, while the block runs."""


def pixel_gate() -> Gate:
    """The gate for all pictures that share the memory of this machine's part."""
    return Gate(_LARGE_PIXELS_IN_FLIGHT, light=LARGE_PIXELS)


class ImageDecoder:
    """Decodes pictures within limits. One instance may serve any number of threads.

    Args:
        input_size: Height and width that the model wants.
        max_bytes: Largest encoded picture.
        max_pixels: Largest picture, in pixels; checked before anything is decoded.
        bytes_setting: The setting that `max_bytes` comes from, for the message.
        gate: Passed by each picture once its size is known; one of its own by default.
    """

    def __init__(
        self,
        input_size: tuple[int, int],
        *,
        max_bytes: int,
        max_pixels: int,
        bytes_setting: str,
        gate: PixelGate | None = None,
    ) -> None:
        self._size = input_size
        self.max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._bytes_setting = bytes_setting
        self._gate = gate or pixel_gate()
        pillow_heif.register_heif_opener()
        Image.core.set_block_size(_MEMORY_BLOCK_BYTES)  # type: ignore[attr-defined]
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

    def decode(self, data: bytes, crop: Crop | None = None, *, thumbnail: bool = True) -> DecodedImage:
        """Decodes a picture.

        Args:
            data: The bytes of the file.
            crop: Use only this part of the upright picture.
            thumbnail: Whether to make one; otherwise it is empty.

        Raises:
            ImageRejected: The reason is its message.
        """
        with self._opened(data) as image:
            return self._finish(self._loaded(image), crop, thumbnail)

    def preview(self, data: bytes) -> bytes:
        """A JPEG of the whole upright picture, at most `PREVIEW_PIXELS` on the longer side.

        It is for people and not for the network, so that libjpeg may decode at a part of the size.

        Raises:
            ImageRejected: The reason is its message.
        """
        with self._opened(data) as image:
            image.draft(None, _within(image.size, PREVIEW_PIXELS))
            whole = self._loaded(image)
            if max(whole.size) > PREVIEW_PIXELS:
                whole = _reduced(whole, PREVIEW_PIXELS)
            return _jpeg(whole, PREVIEW_QUALITY)

    def _finish(self, image: Image.Image, crop: Crop | None, thumbnail: bool) -> DecodedImage:
        width, height = image.size
        small = make_thumbnail(image) if thumbnail else b""
        if crop is not None:
            image = image.crop(_crop_box(crop, width, height))
        resized = _rgb(image.resize((self._size[1], self._size[0])))
        return DecodedImage(np.asarray(resized, dtype=np.uint8), width, height, small)

    @contextmanager
    def _opened(self, data: bytes) -> Iterator[Image.Image]:
        """The opened picture, which has passed the gate; closed at once, as the next large one needs the memory."""
        with ExitStack() as held:
            # The decoder of WebP makes room for the whole picture when it is opened, the others when they decode.
            early = is_webp(data) and least_size(data)
            if early and early[0] * early[1] <= self._max_pixels:
                held.enter_context(self._gate.hold(early[0] * early[1]))
            image = self._open(data)
            if not early:
                held.enter_context(self._gate.hold(image.width * image.height))
            with closing(image):
                yield image

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
        except MemoryError:
            raise
        except Exception as error:  # damaged files raise whatever the plugin stumbles over
            raise DamagedImage(str(error) or type(error).__name__) from error
        self._check_size(image)
        return image

    def _check_size(self, image: Image.Image) -> None:
        if image.width * image.height > self._max_pixels:
            raise ImageTooLarge("pixels", image.width * image.height, self._max_pixels, "MAX_IMAGE_PIXELS")

    def _loaded(self, image: Image.Image) -> Image.Image:
        """Decodes to an upright picture in mode RGB, L or CMYK."""
        try:
            image.load()
            # In some formats what is decoded may be larger than the header said.
            self._check_size(image)
            image = upright(image)
            image = eight_bit(image)
            return without_alpha(image)
        except (ImageRejected, MemoryError):
            raise  # too little memory is no fault of the file
        except Exception as error:
            raise DamagedImage(str(error) or type(error).__name__) from error


def limit_decoder_threads(threads: int) -> None:
    """Limits the threads that a decoder of AVIF or HEIC starts for one picture, in this process."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = threads
    pillow_heif.options.DECODE_THREADS = threads


def make_thumbnail(image: Image.Image) -> bytes:
    """A JPEG of at most `THUMBNAIL_PIXELS` on the longer side, or a little more, of a picture in RGB, L or CMYK."""
    if max(image.size) > _SMALL_ENOUGH_PIXELS:
        image = _reduced(image, THUMBNAIL_PIXELS)
    return _jpeg(image, THUMBNAIL_QUALITY)


def _reduced(image: Image.Image, longest: int) -> Image.Image:
    # At most a twentieth less sharp than bicubic and nearly twice as fast; the gap lets it average blocks first.
    return image.resize(_within(image.size, longest), Image.Resampling.HAMMING, reducing_gap=2.0)


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side has so many pixels."""
    width, height = size
    return max(1, round(width * longest / max(size))), max(1, round(height * longest / max(size)))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    _rgb(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _crop_box(crop: Crop, width: int, height: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = crop
    x, y = min(int(left * width), width - 1), min(int(top * height), height - 1)
    return x, y, max(x + 1, math.ceil(right * width)), max(y + 1, math.ceil(bottom * height))


def _bomb_pixels(error: BaseException) -> int:
    digits = [int(word.strip("()")) for word in str(error).split() if word.strip("()").isdigit()]
    return digits[0] if digits else 0
