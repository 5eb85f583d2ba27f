"""Response headers that keep a browser safe, and the checks before anything is changed."""

from __future__ import annotations

from apiflask import APIFlask, HTTPError
from flask import Response, request

from web import cors
from web.access import require_token

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob: data:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # The pictures are private: another site may not embed them, unless `web.cors` says so.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # For browsers that don't know `frame-ancestors`.
    "X-Frame-Options": "DENY",
}
# Files of other people: opened by themselves they may do nothing at all, whatever a browser takes them for.
_PICTURES = "/api/v1/images/"
_PICTURE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"


def register(app: APIFlask) -> None:
    """Adds the headers to every response."""
    app.after_request(_add_headers)


def _add_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if request.path.startswith(_PICTURES):
        response.headers["Content-Security-Policy"] = _PICTURE_POLICY
    if request.path.startswith("/api/") and "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    cors.add_headers(response)
    return response


def guard_changes() -> None:
    """Lets a request that changes something through only with the right token and as JSON.

    Raises:
        HTTPError: 401, 403 or 415.
    """
    if request.method == "POST":
        require_token()
        require_json()


def require_json() -> None:
    """Refuses what a form of another site could send in the name of whoever is at the browser.

    A browser asks the server before it lets another site send JSON (`web.cors` answers). A request without any body
    is taken from everything but a browser, which says where it comes from.

    Raises:
        HTTPError: 415.
    """
    empty = not request.content_type and not request.content_length and "Origin" not in request.headers
    if not request.is_json and not empty:
        raise HTTPError(415, "Send JSON, with the header Content-Type: application/json.")


def require_object() -> None:
    """Refuses JSON that is no object: the framework takes null for one without fields.

    Raises:
        HTTPError: 422.
    """
    if not isinstance(request.get_json(), dict):
        raise HTTPError(422, "Validation error", detail={"json": {"_schema": ["Send a JSON object."]}})
