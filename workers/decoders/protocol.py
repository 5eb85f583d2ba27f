"""What a worker and its decoder processes say to each other, through pipes.

The worker sends a request, which is a fixed head and the bytes of the picture's file. The process answers with
`OPENED` and the number of pixels as soon as it knows that, and waits for `GO` if the picture is a large one, so that
the worker can limit how many of those are decoded at a time. Then comes one final answer. All answers have the same
fixed head, which is followed by the blocks of bytes whose lengths it has.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.messages import Crop  # with pydantic, which a decoder process has no need of

REQUEST = struct.Struct("<BB4dQ")
"""What is wanted (`Wanted`), whether there is a crop, the crop, and the length of the file that follows."""
REPLY = struct.Struct("<BQQQQ")
"""The kind (`Answer`), width and height, and the lengths of the two blocks that follow."""
GO = b"\x01"

# A thumbnail, a preview or a reason is far smaller: more is not read, whatever the process claims.
MAX_BLOCK_BYTES = 16 * 2**20
PIPE_BYTES = 256 * 1024


class Wanted(IntEnum):
    """What a request asks for."""

    PIXELS = 1
    PIXELS_AND_THUMBNAIL = 2
    PREVIEW = 3


class Answer(IntEnum):
    """What an answer says."""

    READY = 1
    """The process has started."""
    OPENED = 2
    """The header was read: the number of pixels, in place of the width."""
    DECODED = 3
    """Width and height of the upright picture; the pixels and the thumbnail, or only a preview."""
    REJECTED = 4
    """The picture is at fault: a JSON object with `type`, `message` and `facts`."""
    NO_MEMORY = 5
    """It needs more memory than its size allows."""
    FAULT = 6
    """An exception that nobody has thought of: its last line, and the traceback."""


@dataclass(frozen=True, slots=True)
class Request:
    """A picture to decode."""

    data: bytes
    wanted: Wanted
    crop: Crop | None = None

    def head(self) -> bytes:
        """What goes before the data."""
        crop = self.crop or (0.0, 0.0, 0.0, 0.0)
        return REQUEST.pack(self.wanted, self.crop is not None, *crop, len(self.data))


def parse_request(head: bytes) -> tuple[Wanted, Crop | None, int]:
    """What is wanted, the crop, and the length of the data."""
    wanted, has_crop, left, top, right, bottom, length = REQUEST.unpack(head)
    return Wanted(wanted), (left, top, right, bottom) if has_crop else None, length
