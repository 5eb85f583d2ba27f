"""Generated pictures that look like photos to a network and to a codec: smooth shapes, edges, some noise."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def photo(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture in RGB; another seed gives a clearly different one.

    Args:
        seed: Decides everything.
        size: Width and height in pixels.
    """
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(value) for value in generator.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = generator.uniform(-0.2, 1, 2) * size
        width, height = generator.uniform(0.1, 0.6, 2) * size
        colour = tuple(int(value) for value in generator.integers(0, 256, 3))
        shape = draw.ellipse if generator.random() < 0.5 else draw.rectangle
        shape((x, y, x + width, y + height), fill=colour)
    image = image.filter(ImageFilter.GaussianBlur(1.5))
    noise = generator.normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
