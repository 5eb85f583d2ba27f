"""Sends pages, styles and scripts compressed to browsers that take it: a fifth of the bytes, for a millisecond.

Only text for people's browsers. Answers of the API stay as they are: most are small, and clients beside the server
would wait for nothing. The pages hold no secret that a length could give away.
"""

from __future__ import annotations

import gzip
from functools import lru_cache

from apiflask import APIFlask
from flask import Response, request

TYPES = frozenset({"text/html", "text/css", "text/javascript", "application/javascript", "image/svg+xml"})
# What fits into one packet arrives no sooner.
LEAST_BYTES = 1000
_PAGE_LEVEL, _FILE_LEVEL = 5, 9


def register(app: APIFlask) -> None:
    """Compresses what is worth it. Registered before others, so that it sees what they have made of a response."""
    app.after_request(_compress)


def _compress(response: Response) -> Response:
    if request.method not in {"GET", "HEAD"} or response.status_code != 200 or response.mimetype not in TYPES:
        return response
    is_file = response.direct_passthrough  # a static file, handed over unread
    response.vary.add("Accept-Encoding")
    if request.accept_encodings.quality("gzip") <= 0 or (response.is_streamed and not is_file):
        return response
    response.direct_passthrough = False
    data = response.get_data()
    if len(data) < LEAST_BYTES:
        return response
    response.set_data(_compressed_file(data) if is_file else gzip.compress(data, _PAGE_LEVEL, mtime=0))
    response.headers["Content-Encoding"] = "gzip"
    etag, _ = response.get_etag()
    if etag is not None:
        # Other bytes than those of the file itself, but the same content.
        response.set_etag(etag, weak=True)
    response.headers.pop("Accept-Ranges", None)
    return response


@lru_cache(maxsize=256)
def _compressed_file(data: bytes) -> bytes:
    return gzip.compress(data, _FILE_LEVEL, mtime=0)
