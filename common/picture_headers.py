"""Looks at the first bytes of an uploaded picture: what kind it is, and how large it says it is.

For the web tier, which must not be brought down by what a stranger sends. A decoder would open some formats with
native code, and follow a list of a million parts to its end. Here only a few fixed places are read; what they do not
tell is left to a worker, which decodes in a process of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import EmptyImage, ImageTooLarge, UnsupportedImage

if TYPE_CHECKING:
    from common.settings import Settings

Size = tuple[int, int]

# Far more than real files have before their size.
_MOST_PARTS = 1000
# At most what a block of the codecs has, less one.
_PADDING = 127
_BRANDS = frozenset(b"avif avis mif1 msf1 heic heix heim heis hevc hevx hevm hevs".split())


@dataclass(frozen=True)
class HeaderCheck:
    """Refuses at once what no worker would take.

    Attributes:
        max_bytes: Largest file.
        max_pixels: Largest picture, in pixels.
    """

    max_bytes: int
    max_pixels: int

    @classmethod
    def for_uploads(cls, settings: Settings) -> HeaderCheck:
        """With the limits for uploaded pictures."""
        return cls(settings.max_upload_bytes, settings.max_image_pixels)

    def check(self, data: bytes) -> None:
        """Looks at a file. One that passes may still turn out to be damaged.

        Raises:
            ImageRejected: It is empty, too large, or in no supported format.
        """
        if not data:
            raise EmptyImage
        if len(data) > self.max_bytes:
            raise ImageTooLarge("bytes", len(data), self.max_bytes, "MAX_UPLOAD_BYTES")
        width, height = least_size(data) or (0, 0)
        if width * height > self.max_pixels:
            raise ImageTooLarge("pixels", width * height, self.max_pixels, "MAX_IMAGE_PIXELS")


def least_size(data: bytes) -> Size | None:
    """Width and height that the header tells, before any rotation; None if it is not where it is looked for.

    Of AVIF and HEIC a little less: their encoders pad pictures, and say elsewhere how much.

    Raises:
        UnsupportedImage: The file is in no supported format.
    """
    size_of = _reader(data)
    if size_of is None:
        raise UnsupportedImage
    try:
        return size_of(data)
    except (struct.error, IndexError):  # the file is too short
        return None


def is_webp(data: bytes) -> bool:
    """Whether a file begins like a WebP."""
    return data.startswith(b"RIFF") and data[8:16] in {b"WEBPVP8 ", b"WEBPVP8L", b"WEBPVP8X"}


def _reader(data: bytes) -> Callable[[bytes], Size | None] | None:
    """What reads the size in files that begin like this one."""
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif
    if is_webp(data):
        return _webp
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS:
        return _iso
    if data.startswith((b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")):
        return _tiff
    if data.startswith(b"BM"):
        return _bmp
    return None


def _jpeg(data: bytes) -> Size | None:
    position = 2
    for _ in range(_MOST_PARTS):
        first, marker, length = struct.unpack_from(">BBH", data, position)
        if first != 0xFF:
            return None
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        position += 2 + length
    return None


def _png(data: bytes) -> Size | None:
    return struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None


def _gif(data: bytes) -> Size:
    return struct.unpack_from("<HH", data, 6)


def _bmp(data: bytes) -> Size:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)  # a negative height says that the rows begin at the top


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _iso(data: bytes) -> Size | None:
    """AVIF and HEIC: the largest of the sizes in the `meta` box, which are those of the picture and of its tiles."""
    position = 0
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"meta":
            return _largest_extent(data, position, min(len(data), position + length))
        if length < 8:
            return None
        position += length
    return None


def _largest_extent(data: bytes, start: int, end: int) -> Size | None:
    sizes: list[Size] = []
    position = data.find(b"ispe", start, end)
    while position >= 0 and len(sizes) < _MOST_PARTS:
        sizes.append(struct.unpack_from(">II", data, position + 8))
        position = data.find(b"ispe", position + 4, end)
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return (max(1, width - _PADDING), max(1, height - _PADDING)) if sizes else None


def _tiff(data: bytes) -> Size | None:
    order = "<" if data.startswith(b"II") else ">"
    if 43 in data[2:4]:  # BigTIFF
        (directory,) = struct.unpack_from(f"{order}Q", data, 8)
        (count,) = struct.unpack_from(f"{order}Q", data, directory)
        first, step, at = directory + 8, 20, 12
    else:
        (directory,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, directory)
        first, step, at = directory + 2, 12, 8
    found: dict[int, int] = {}
    for entry in range(first, first + step * min(count, _MOST_PARTS), step):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag in {256, 257} and kind in {3, 4, 16}:
            (found[tag],) = struct.unpack_from(order + {3: "H", 4: "I", 16: "Q"}[kind], data, entry + at)
    return (found[256], found[257]) if len(found) == 2 else None
