"""Some pictures to try a model on: of the library where it has any, else generated ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from common.errors import ImageRejected
from common.images import EXTENSIONS, PictureDecoder, Pixels
from common.settings import LibraryRoot, Settings
from workers.decoders.pool import pool_for_files

PICTURES = 32
# Fewer real ones do not tell enough: the choice is made again once there are more.
ENOUGH_PICTURES = 16
# The library may be large and far away: no more names are looked at, nor larger files read.
_NAMES = 2000
_MAX_BYTES = 16 * 2**20


def trial_pictures(settings: Settings, input_size: tuple[int, int]) -> tuple[Pixels, int]:
    """Pictures at a model's size, (32, h, w, 3) uint8, and how many of them are of the library."""
    from common.up.sample import sample_pictures

    with pool_for_files(settings, input_size) as pool:
        real = list(islice(_real_pictures(settings.library_roots, pool.for_files(settings)), PICTURES))
    height, width = input_size
    generated = [
        np.asarray(picture.convert("RGB").resize((width, height))) for picture in sample_pictures(PICTURES - len(real))
    ]
    return np.stack([*real, *generated]), len(real)


def count_pictures(roots: tuple[LibraryRoot, ...]) -> int:
    """How many pictures the library has; it stops counting where there are enough."""
    return sum(len(list(islice(_picture_paths(root), ENOUGH_PICTURES))) for root in roots)


def _real_pictures(roots: tuple[LibraryRoot, ...], decoder: PictureDecoder) -> Iterator[Pixels]:
    """Decoded pictures from all over the first names of each root."""
    for root in roots:
        paths = list(islice(_picture_paths(root), _NAMES))
        for path in paths[:: max(1, len(paths) // (2 * PICTURES))]:
            try:
                if path.stat().st_size <= _MAX_BYTES:
                    yield decoder.decode(path.read_bytes(), thumbnail=False).pixels
            except (OSError, ImageRejected):
                continue


def _picture_paths(root: LibraryRoot) -> Iterator[Path]:
    for folder, _, names in os.walk(root.path):
        paths = (Path(folder, name) for name in sorted(names))
        yield from (path for path in paths if path.suffix.lower() in EXTENSIONS)
