"""Lets pages of other origins use the API from a browser, where `IMAGESEARCH_CORS_ORIGINS` names them.

Credentials are never allowed: cookies mean nothing to the API, and its token comes in a header of its own.
"""

from __future__ import annotations

from flask import Response, request

from web.services import services

_API = "/api/v1/"
_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key"
_RESPONSE_HEADERS = "ETag, Location, Retry-After, X-Request-ID"
_PREFLIGHT_SECONDS = "600"


def add_headers(response: Response) -> None:
    """Adds what tells a browser to hand the answer over to the page that asked, if that is allowed."""
    allowed = services().settings.cors_origins
    if not allowed or not request.path.startswith(_API):
        return
    if "*" in allowed:
        origin: str | None = "*"
    else:
        origin = request.headers.get("Origin")
        # A cache must not give one origin's answer to another.
        response.vary.add("Origin")
    if origin not in allowed:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
        response.headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = _PREFLIGHT_SECONDS
