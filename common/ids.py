"""The ids of searches, jobs and batches: they become parts of keys in Redis and of names of files."""

from __future__ import annotations

import re

_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


def is_id(text: str) -> bool:
    """Whether the text may be one; nothing else may reach a key or a path."""
    return _ID.fullmatch(text) is not None


def checked_id(text: str) -> str:
    """The same text, on its way into a path.

    Raises:
        ValueError: It is no id.
    """
    if not is_id(text):
        raise ValueError(f"{text[:80]!r} is no id")
    return text
