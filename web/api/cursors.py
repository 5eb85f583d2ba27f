"""Cursors of lists that are in the order of paths: the last path of a page, so that no page depends on a count."""

from __future__ import annotations

import base64
import binascii

from apiflask import HTTPError


def encode_cursor(path: str) -> str:
    """The cursor of the page that begins behind a path."""
    return base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> str:
    """The path that a page begins behind, empty for the first page.

    Raises:
        HTTPError: 422: it is no cursor.
    """
    if not cursor:
        return ""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        detail = {"query": {"cursor": ["Not a cursor of this API: pass next_cursor of the page before."]}}
        raise HTTPError(422, "Validation error", detail=detail) from None
