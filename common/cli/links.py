"""Links from a terminal to the files of the library (OSC 8), for those that are on this host."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from common.library import Library


class Links:
    """Says where a click on a picture's path leads.

    Args:
        library: As this host mounts it.
    """

    def __init__(self, library: Library) -> None:
        from common.terminal import is_terminal

        self._library = library
        self._wanted = is_terminal(sys.stdout)

    def to(self, public_path: str) -> str | None:
        """The address of the file; None where nobody could click on it, or it is not on this host."""
        from common.errors import OutsideLibrary
        from common.library import Location

        if not self._wanted:
            return None
        try:
            path = self._library.resolve(Location.parse(public_path))
        except OutsideLibrary:
            return None
        # Not `path.is_file()`: that raises when a name is too long.
        if not os.path.isfile(path):  # noqa: PTH113
            return None
        # With the host's name: a terminal that shows another host's output must not open a file of its own.
        return f"file://{socket.gethostname()}{quote(os.fsencode(path))}"
