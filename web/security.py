"""Response headers that keep a browser safe, and the checks before anything is changed."""

from __future__ import annotations

import hmac

from apiflask import APIFlask, HTTPError
from flask import Response, request

from web import cors
from web.services import services

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob: data:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # The pictures are private: another site may not embed them, unless `web.cors` says so.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def register(app: APIFlask) -> None:
    """Adds the headers to every response."""
    app.after_request(_add_headers)


def _add_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if request.path.startswith("/api/") and "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    cors.add_headers(response)
    return response


def guard_changes() -> None:
    """Lets a request that changes something through only with the right token and as JSON.

    Raises:
        HTTPError: 401 or 415.
    """
    if request.method == "POST":
        require_token()
        require_json()


def require_token() -> None:
    """Checks `Authorization: Bearer TOKEN` where the server has a token.

    Raises:
        HTTPError: 401.
    """
    token = services().settings.api_token
    if token is None:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # WSGI hands headers over as Latin-1, whatever bytes they are.
    right = hmac.compare_digest(given.strip().encode("latin-1"), token.get_secret_value().encode())
    if scheme.lower() != "bearer" or not right:
        message = "This server changes its index only for clients that send its token: Authorization: Bearer TOKEN."
        raise HTTPError(401, message, headers={"WWW-Authenticate": 'Bearer realm="imagesearch"'})


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
