"""What JPEG's `draft` would change: features of large photos decoded at a reduced scale beside those decoded whole.

The photos are mosaics of smaller ones, so that they have detail at every scale.

    python -m benchmarks.draft_parity FOLDER --model FILE.keras
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.photos import photos_in
from common.settings import Settings
from common.weights import resolve_weights
from workers.extractor import load_extractor

TILES = 8
TILE = (384, 256)


def mosaic(photos: list[Path]) -> bytes:
    """A JPEG of 3072 x 2048 pixels made of 64 photos."""
    picture = Image.new("RGB", (TILES * TILE[0], TILES * TILE[1]))
    for number, path in enumerate(photos):
        with Image.open(path) as photo:
            place = (number % TILES * TILE[0], number // TILES * TILE[1])
            picture.paste(photo.convert("RGB").resize(TILE), place)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def decoded(data: bytes, size: tuple[int, int], scale: int) -> npt.NDArray[np.uint8]:
    """The picture at the model's size, decoded at 1/`scale`: (h, w, 3) uint8."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (image.width // scale, image.height // scale))
        return np.asarray(image.resize((size[1], size[0])).convert("RGB"))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a folder of photos")
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--weights", default="untrained")
    parser.add_argument("--mosaics", type=int, default=12)
    options = parser.parse_args()
    settings = Settings(model=options.model, weights=options.weights, precision="float32")
    extractor = load_extractor(settings, resolve_weights(settings))
    photos = photos_in(options.images)
    pictures = [mosaic([photos[(64 * n + t) % len(photos)] for t in range(64)]) for n in range(options.mosaics)]
    size = extractor.spec.input_size
    whole = extractor.extract(np.stack([decoded(data, size, 1) for data in pictures]))
    figures = {}
    for scale in (2, 4, 8):
        reduced = extractor.extract(np.stack([decoded(data, size, scale) for data in pictures]))
        cosines = (whole * reduced).sum(axis=1)
        figures[f"1/{scale}"] = {"lowest_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
    print(json.dumps({"model": extractor.spec.name, "pictures": len(pictures), "scales": figures}, indent=1))


if __name__ == "__main__":
    main()
