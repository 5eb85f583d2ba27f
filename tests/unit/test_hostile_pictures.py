"""Pictures that are made to do harm, through real decoder processes: refused or decoded, within their bounds."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from common.errors import DecoderFault, ImageRejected
from common.images import DecodedImage
from common.settings import Settings
from tests.unit.helpers import encoded, noise
from workers.decoders.pool import DecoderPool, PooledDecoder, pool_for_files

SMALL = noise(40, 30)
JPEG, PNG, GIF = encoded(SMALL, "JPEG"), encoded(SMALL, "PNG"), encoded(SMALL, "GIF")
# A process has about 40 MiB before it decodes anything.
MOST_MIB = 500


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(*chunks: bytes) -> bytes:
    """The small PNG with more chunks behind its header."""
    return PNG[:33] + b"".join(chunks) + PNG[33:]


def packed_zeros(size: int) -> bytes:
    """So many zeros, deflated; in pieces, to need little memory here."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()


def gif_of_many_frames(frames: int) -> bytes:
    palette_end = 13 + 3 * 2 ** ((GIF[10] & 7) + 1)
    return GIF[:palette_end] + GIF[palette_end:-1] * frames + b";"


def apng_of_many_frames(frames: int) -> bytes:
    control = struct.pack(">IIIIIHHBB", 0, 40, 30, 0, 0, 1, 10, 0, 0)
    more = b"".join(
        chunk(b"fcTL", struct.pack(">I", 2 * n + 1) + control[4:]) + chunk(b"fdAT", struct.pack(">I", 2 * n + 2) + b"x")
        for n in range(frames)
    )
    whole = PNG[:33] + chunk(b"acTL", struct.pack(">II", frames + 1, 0)) + chunk(b"fcTL", control) + PNG[33:-12]
    return whole + more + PNG[-12:]


def tiff_of_many_tags(data: bytes) -> bytes:
    """A TIFF whose directory has 60,000 tags, each of which claims the whole of 20 MB as its value."""
    tags = b"".join(struct.pack("<HHII", tag, 7, len(data), 0) for tag in range(1000, 61_000))
    size = struct.pack("<HHIIHHII", 256, 4, 1, 40, 257, 4, 1, 30)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 60_002) + size + tags + bytes(4) + data


def many_frames(image_format: str, frames: int) -> bytes:
    others = [noise(40, 30, seed=seed % 7) for seed in range(frames)]
    return encoded(SMALL, image_format, save_all=True, append_images=others)


def exif_segments(count: int) -> bytes:
    segment = b"\xff\xe1" + struct.pack(">H", 65_000) + b"Exif\0\0" + b"MM\0*" + b"x" * 64_988
    return JPEG[:2] + segment * count + JPEG[2:]


DECODED = {
    "a GIF of 20,000 frames": lambda: gif_of_many_frames(20_000),
    "an APNG of 20,000 frames": lambda: apng_of_many_frames(20_000),
    "a WebP of 300 frames": lambda: many_frames("WEBP", 300),
    "a TIFF of 500 pages": lambda: many_frames("TIFF", 500),
    "a JPEG of 13 MB of EXIF data": lambda: exif_segments(200),
    "a PNG with 200,000 empty chunks": lambda: with_chunks(chunk(b"prVt", b"") * 200_000),
    "a JPEG that is a ZIP, too": lambda: JPEG + b"PK\x03\x04" + bytes(5000),
    "a GIF that is a script, too": lambda: GIF + b"<script>alert(1)</script>",
}
EITHER = {
    "a PNG whose text unfolds to 256 MB": lambda: with_chunks(chunk(b"zTXt", b"k\0\0" + packed_zeros(2**28))),
    "a PNG whose profile unfolds to 256 MB": lambda: with_chunks(chunk(b"iCCP", b"p\0\0" + packed_zeros(2**28))),
    "a PNG with 100 texts of 1 MB": lambda: with_chunks(
        *(chunk(b"iTXt", b"k%d\0\1\0\0\0" % n + packed_zeros(2**20 - 10)) for n in range(100))
    ),
    "a PNG whose pixels unfold to 512 MB": lambda: PNG[:33] + chunk(b"IDAT", packed_zeros(2**29)) + chunk(b"IEND", b""),
    "a TIFF of 60,000 huge tags": lambda: tiff_of_many_tags(bytes(20_000_000)),
    "a JPEG of a million empty segments": lambda: JPEG[:2] + b"\xff\xe5\0\2" * 1_000_000 + JPEG[2:],
    "an AVIF of a million boxes": lambda: encoded(SMALL, "AVIF") + b"\0\0\0\x08free" * 1_000_000,
    "a HEIC of a million boxes": lambda: encoded(SMALL, "AVIF")[:24] + b"\0\0\0\x08free" * 1_000_000,
}


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with pool_for_files(Settings(), (16, 16)) as made:
        yield made


@pytest.fixture
def decoder(pool: DecoderPool) -> PooledDecoder:
    return pool.for_files(Settings())


def outcome(decoder: PooledDecoder, data: bytes) -> DecodedImage | ImageRejected:
    try:
        return decoder.decode(data)
    except ImageRejected as error:
        return error


def peak_mib(pool: DecoderPool) -> float:
    """The most memory of its processes so far."""
    peaks = [0.0]
    for process in pool._idle:
        for line in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                peaks.append(int(line.split()[1]) / 1024)
    return max(peaks)


@pytest.mark.parametrize("name", DECODED)
def test_what_is_only_long_is_decoded(pool: DecoderPool, decoder: PooledDecoder, name: str) -> None:
    image = decoder.decode(DECODED[name]())
    assert (image.width, image.height) == (40, 30)
    assert peak_mib(pool) < MOST_MIB


@pytest.mark.parametrize("name", EITHER)
def test_what_unfolds_stays_within_its_bounds(pool: DecoderPool, decoder: PooledDecoder, name: str) -> None:
    found = outcome(decoder, EITHER[name]())
    assert not isinstance(found, DecoderFault)
    assert peak_mib(pool) < MOST_MIB
    assert decoder.decode(JPEG).width == 40


def test_a_name_says_nothing(decoder: PooledDecoder) -> None:
    # What is decoded is decided by the first bytes alone; the worker does not even tell the name.
    for image_format in ("PNG", "GIF", "WEBP", "TIFF"):
        assert decoder.decode(encoded(SMALL, image_format)).width == 40


def test_metadata_of_a_good_picture_is_no_obstacle(decoder: PooledDecoder) -> None:
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x/>" * 10_000, zip=True)
    buffer = io.BytesIO()
    SMALL.save(buffer, "PNG", pnginfo=text)
    assert decoder.decode(buffer.getvalue()).width == 40
    assert decoder.decode(encoded(SMALL, "JPEG", icc_profile=bytes(500_000))).width == 40


def test_every_odd_file_is_decoded_or_refused(assets: Path, decoder: PooledDecoder) -> None:
    paths = [path for path in (assets / "images" / "odd").rglob("*") if path.is_file()]
    found = [outcome(decoder, path.read_bytes()) for path in paths]
    assert not any(isinstance(item, DecoderFault) for item in found)
    assert sum(isinstance(item, DecodedImage) for item in found) > 150
    assert isinstance(decoder.decode(encoded(Image.new("RGB", (9, 9)))), DecodedImage)
