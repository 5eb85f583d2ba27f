"""What decoding one picture may take. It grows with the picture's size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecodingLimits:
    """Bounds of time and memory.

    Processor time is what counts: bulk workers run at a low priority, and next to busy searches a harmless picture
    may take a hundred times as long by the clock. By the clock only what neither ends nor computes is stopped.

    Attributes:
        base_seconds: Processor time of the smallest picture.
        megapixel_seconds: Processor time for each million pixels more.
        patience: How many times as long it may take by the clock.
        base_bytes: Memory of the smallest picture, for what its format needs at any size.
        pixel_bytes: Memory for each pixel. A picture of 8 bits needs 4, the formats' own buffers up to as much three
            times more, a rotation as much again.
        file_bytes: Memory for each byte of the file.
    """

    base_seconds: float = 20.0
    megapixel_seconds: float = 1.0
    patience: float = 10.0
    base_bytes: int = 256 * 2**20
    pixel_bytes: int = 32
    file_bytes: int = 3

    def seconds(self, pixels: int) -> float:
        """Processor time for a picture of so many pixels."""
        return self.base_seconds + self.megapixel_seconds * pixels / 1e6

    def memory(self, pixels: int, file_size: int) -> int:
        """Bytes for a picture of so many pixels in a file of so many bytes."""
        return self.base_bytes + self.pixel_bytes * pixels + self.file_bytes * file_size
