"""Embeds many variants of real photos: other crops, mirrored, brighter or darker, with other colours.

So a thousand photos give twenty thousand images whose features have the spectrum, the clusters and the near
duplicates of real ones. Variants that are held out become the queries.

    python -m benchmarks.photo_features --images FOLDER --model FILE.keras --to FOLDER
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.measuring import cores
from benchmarks.photos import photos_in
from common.images import Pixels
from common.settings import Settings
from common.weights import resolve_weights
from workers.extractor import load_extractor

_BATCH = 64
_LEAST_SIDE = 0.6
_LEAST_FACTOR, _LARGEST_FACTOR = 0.6, 1.5


def variant(image: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """One variant of a picture, (h, w, 3) uint8 of a size (h, w)."""
    sides = rng.uniform(_LEAST_SIDE, 1, 2) * image.size
    left, top = rng.uniform(0, 1, 2) * (np.array(image.size) - sides)
    box = (left, top, left + sides[0], top + sides[1])
    part = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        part = ImageOps.mirror(part)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        part = change(part).enhance(rng.uniform(_LEAST_FACTOR, _LARGEST_FACTOR))
    return np.asarray(part)


def variants(photos: list[Path], size: tuple[int, int], number: int) -> Iterator[Pixels]:
    """A variant of each photo; another number gives others."""

    def make(position: int) -> Pixels:
        with Image.open(photos[position]) as image:
            return variant(image.convert("RGB"), size, np.random.default_rng((number, position)))

    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(make, range(len(photos)))


def main() -> None:
    """Embeds them, writes the features, and prints what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of real photos")
    parser.add_argument("--model", required=True, help="a .keras file, or vgg16")
    parser.add_argument("--to", type=Path, required=True, help="a folder for the features")
    parser.add_argument("--variants", type=int, default=20, help="of each photo")
    parser.add_argument("--queries", type=int, default=250, help="variants that are held out")
    options = parser.parse_args()
    settings = Settings(model=options.model, precision="float32")
    extractor = load_extractor(settings, resolve_weights(settings))
    photos = photos_in(options.images)
    rng = np.random.default_rng(0)
    chosen = [photos[position] for position in rng.permutation(len(photos))[: options.queries]]
    count = options.variants * len(photos)
    features = np.empty((count + len(chosen), extractor.spec.dimension), np.float32)
    began = time.perf_counter()

    def pictures() -> Iterator[Pixels]:
        for number in range(options.variants):
            yield from variants(photos, extractor.spec.input_size, number)
        yield from variants(chosen, extractor.spec.input_size, options.variants)

    waiting, done = pictures(), 0
    while batch := list(islice(waiting, _BATCH)):
        features[done : done + len(batch)] = extractor.extract(np.stack(batch))
        done += len(batch)
    seconds = time.perf_counter() - began
    options.to.mkdir(parents=True, exist_ok=True)
    np.save(options.to / "features.npy", features[:count].astype(np.float16))
    np.save(options.to / "queries.npy", features[count:])
    # Last: what is there is whole.
    (options.to / "spec.json").write_text(extractor.spec.model_dump_json())
    figures = {"photos": len(photos), "features": count, "queries": len(chosen), "seconds": round(seconds, 1)}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
