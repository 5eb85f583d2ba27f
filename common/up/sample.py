"""A small library of generated pictures, so that a first start has something to find.

Ten families of 30 pictures. Within a family pattern and hue are alike, so that it shows whether a search works.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Canvas = npt.NDArray[np.float64]
"""(height, width, 3), from 0 to 1."""

PICTURES_IN_A_FAMILY = 30
WIDTH, HEIGHT = 320, 240
_SEED = 20240


def make_sample_library(folder: Path, say: Callable[[str], None]) -> Path:
    """Makes the sample library unless it is there already.

    Args:
        folder: Where to; it appears whole or not at all.
        say: Told when there is something to wait for.

    Returns:
        `folder`.
    """
    if folder.is_dir():
        return folder
    say(f"No folder of pictures was given: making a sample library in {folder}")
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    for family, draw in FAMILIES.items():
        (draft / family).mkdir(parents=True)
        # One generator for each family: a new family leaves the others as they were.
        random = np.random.default_rng([_SEED, *family.encode()])
        for number in range(1, PICTURES_IN_A_FAMILY + 1):
            # PNG for a few: a library has more than one format.
            suffix = "png" if number % 10 == 0 else "jpg"
            _picture(draw(random)).save(draft / family / f"{family}-{number:02}.{suffix}", quality=88)
    draft.rename(folder)
    return folder


def sample_pictures(number: int) -> list[Image.Image]:
    """So many generated pictures, of each family in turn."""
    random = np.random.default_rng(_SEED)
    draws = list(FAMILIES.values())
    return [_picture(draws[position % len(draws)](random)) for position in range(number)]


def _picture(canvas: Canvas) -> Image.Image:
    return Image.fromarray((np.clip(canvas, 0, 1) * 255).astype(np.uint8))


def _grid(random: np.random.Generator, tilt: float = 0.2) -> tuple[Canvas, Canvas]:
    """Coordinates from -1 to 1, slightly turned and shifted."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    angle = random.uniform(-tilt, tilt)
    x, y = x + random.uniform(-0.2, 0.2), y + random.uniform(-0.2, 0.2)
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)


def _hue(random: np.random.Generator, hue: float, value: float = 0.9, saturation: float = 0.75) -> Canvas:
    """An RGB colour close to the hue, which goes round from 0 (red) to 1."""
    turned = hue + random.uniform(-0.03, 0.03)
    wheel = np.clip(np.abs((turned * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return np.asarray(value * (1 - saturation + saturation * wheel))


def _blend(mask: Canvas, inside: Canvas, outside: Canvas) -> Canvas:
    return mask[..., None] * inside + (1 - mask[..., None]) * outside


def _soft(distance: Canvas, edge: float = 0.02) -> Canvas:
    """1 inside (below 0), 0 outside, with a smooth edge."""
    return np.asarray(np.clip(0.5 - distance / edge, 0, 1))


def _gradient(random: np.random.Generator) -> Canvas:
    _, y = _grid(random, tilt=0.6)
    return _blend(np.clip((y + 1) / 2, 0, 1), _hue(random, 0.62), _hue(random, 0.05, saturation=0.5))


def _checkerboard(random: np.random.Generator) -> Canvas:
    x, y = _grid(random)
    size = random.uniform(3.5, 5)
    return _blend(_soft(np.sin(x * size * 3) * np.sin(y * size * 3), 0.1), _hue(random, 0.0), np.full(3, 0.95))


def _stripes(random: np.random.Generator) -> Canvas:
    x, y = _grid(random, tilt=0.35)
    return _blend(_soft(np.sin((x + y) * random.uniform(11, 15)), 0.2), _hue(random, 0.14), np.full(3, 0.12))


def _rings(random: np.random.Generator) -> Canvas:
    x, y = _grid(random)
    return _blend(
        _soft(np.sin(np.hypot(x * 4 / 3, y) * random.uniform(18, 24)), 0.3), _hue(random, 0.83), np.full(3, 0.97)
    )


def _disc(random: np.random.Generator) -> Canvas:
    x, y = _grid(random)
    return _blend(
        _soft(np.hypot(x * 4 / 3, y) - random.uniform(0.4, 0.65)), _hue(random, 0.33), _hue(random, 0.6, 0.25)
    )


def _dots(random: np.random.Generator) -> Canvas:
    canvas = np.broadcast_to(_hue(random, 0.5, 0.95, 0.2), (HEIGHT, WIDTH, 3))
    x, y = _grid(random)
    for _ in range(40):
        centre_x, centre_y = random.uniform(-1.2, 1.2, 2)
        spot = _soft(np.hypot((x - centre_x) * 4 / 3, y - centre_y) - random.uniform(0.05, 0.12))
        canvas = _blend(spot, _hue(random, 0.93), canvas)
    return canvas


def _noise(random: np.random.Generator) -> Canvas:
    grain = random.uniform(0, 1, (HEIGHT, WIDTH))
    return _blend(grain, _hue(random, 0.08, 0.6, 0.5), np.full(3, random.uniform(0.75, 0.85)))


def _clouds(random: np.random.Generator) -> Canvas:
    layers = np.zeros((HEIGHT, WIDTH))
    for octave in (3, 6, 12, 24):
        small = Image.fromarray((random.uniform(0, 1, (octave, octave)) * 255).astype(np.uint8))
        layers += np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float64) / 255 / octave**0.7
    return _blend((layers - layers.min()) / np.ptp(layers), np.full(3, 0.98), _hue(random, 0.57, 0.75))


def _hills(random: np.random.Generator) -> Canvas:
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    canvas = _blend(1 - y, _hue(random, 0.58, 0.95, 0.55), _hue(random, 0.12, 1.0, 0.3))
    sun_x, sun_y = random.uniform(0.15, 0.85), random.uniform(0.1, 0.3)
    canvas = _blend(_soft(np.hypot(x - sun_x, (y - sun_y) * 0.75) - 0.06), _hue(random, 0.14, 1.0, 0.6), canvas)
    for depth in range(3):
        phase, waves = random.uniform(0, 6.3), random.uniform(3, 6)
        ridge = 0.45 + 0.17 * depth + 0.08 * np.sin(x * waves + phase)
        canvas = _blend(_soft(ridge - y), _hue(random, 0.33, 0.7 - 0.18 * depth, 0.6), canvas)
    return canvas


def _city(random: np.random.Generator) -> Canvas:
    sky = _blend(np.linspace(1, 0, HEIGHT)[:, None] * np.ones(WIDTH), _hue(random, 0.7, 0.2), _hue(random, 0.78, 0.5))
    canvas = np.array(Image.fromarray((sky * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))) / 255
    left = 0
    while left < WIDTH:
        width, top = int(random.integers(24, 48)), int(random.integers(60, 160))
        canvas[top:, left : left + width] = _hue(random, 0.66, 0.12, 0.3)
        for row in range(top + 8, HEIGHT - 8, 14):
            for column in range(left + 5, min(left + width, WIDTH) - 6, 10):
                if random.random() < 0.6:
                    canvas[row : row + 7, column : column + 5] = _hue(random, 0.14, 0.95, 0.5)
        left += width + 2
    return canvas


FAMILIES: dict[str, Callable[[np.random.Generator], Canvas]] = {
    "checkerboards": _checkerboard,
    "cities": _city,
    "clouds": _clouds,
    "discs": _disc,
    "dots": _dots,
    "gradients": _gradient,
    "hills": _hills,
    "noise": _noise,
    "rings": _rings,
    "stripes": _stripes,
}
