"""Who may do what: the server's token, in a header or by a cookie that follows from it.

Programs send `Authorization: Bearer TOKEN`. A browser gets a cookie on the page where people sign in (`web.sign_in`):
scripts cannot read it, other sites cannot send it, and it is a signed time, not the token. The key of the signature is
derived from the token, so every web process knows it, and another token ends all sessions.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from apiflask import APIFlask, HTTPError
from flask import Response, redirect, request, url_for
from itsdangerous import BadSignature, TimestampSigner
from werkzeug.wrappers import Response as BaseResponse

from web.services import services

COOKIE = "imagesearch_session"
SESSION_SECONDS = 30 * 24 * 3600
# Somebody who got hold of a cookie could try tokens until one gives its signature: each try shall cost something.
_KEY_ROUNDS = 100_000
_SALT = b"imagesearch session"

# Open to everybody even where reading needs the token: the process's health, and what it takes to sign in.
_OPEN = {"static", "health.healthz", "health.readyz", "sign_in.sign_in_page", "sign_in.sign_in", "sign_in.sign_out"}
_SAFE = {"GET", "HEAD", "OPTIONS"}

_NEEDS_TOKEN = {
    "write": "This server changes its index only for clients that send its token: Authorization: Bearer TOKEN.",
    "read": "This server answers only those who have its token: Authorization: Bearer TOKEN, or sign in on its page.",
}


def register(app: APIFlask) -> None:
    """Asks for the token before anything is read, where the settings say so."""
    app.before_request(_guard_reading)
    app.context_processor(lambda: {"signed_in": is_signed_in()})


def _guard_reading() -> BaseResponse | None:
    # A browser asks without credentials whether it may ask (`web.cors`).
    if services().settings.require_auth != "read" or request.endpoint in _OPEN or request.method == "OPTIONS":
        return None
    if _wants_page() and not _is_known():
        target = request.full_path.removesuffix("?")
        return redirect(url_for("sign_in.sign_in_page", next=target), 303)
    require_token()
    return None


def require_token() -> None:
    """Checks who asks, where the server has a token.

    Raises:
        HTTPError: 401; or 403 for a change that another site's page sent with the cookie.
    """
    settings = services().settings
    if settings.api_token is None or _has_bearer(settings.api_token.get_secret_value()):
        return
    if not is_signed_in():
        message = _NEEDS_TOKEN[settings.require_auth]
        raise HTTPError(401, message, headers={"WWW-Authenticate": 'Bearer realm="imagesearch"'})
    # The cookie says who is at the browser, not whose page asks. `SameSite=Strict` keeps other sites off, but not
    # another port or a subdomain of the same one.
    if request.method not in _SAFE and sender() != "own":
        raise HTTPError(403, "Changes with the cookie are taken from this server's own pages only.")


def may_read() -> bool:
    """Whether who asks may see what the server shows, where that is not for everybody."""
    return services().settings.require_auth != "read" or _is_known()


def is_signed_in() -> bool:
    """Whether the request carries a cookie that was given for the token of today."""
    token = services().settings.api_token
    given = request.cookies.get(COOKIE)
    if token is None or not given:
        return False
    try:
        _signer(token.get_secret_value()).unsign(given, max_age=SESSION_SECONDS)
    except BadSignature:  # expired, too
        return False
    return True


def is_token(given: str) -> bool:
    """Whether the text is the server's token; takes as long for any text of the same length."""
    token = services().settings.api_token
    return token is not None and _same(given, token.get_secret_value())


def sign_in(response: Response) -> None:
    """Gives the browser the cookie."""
    token = services().settings.api_token
    assert token is not None, "there is nothing to sign in for"
    value = _signer(token.get_secret_value()).sign(secrets.token_hex(8)).decode()
    response.set_cookie(
        COOKIE, value, max_age=SESSION_SECONDS, secure=request.is_secure, httponly=True, samesite="Strict"
    )


def sign_out(response: Response) -> None:
    """Takes the cookie back."""
    response.delete_cookie(COOKIE, secure=request.is_secure, httponly=True, samesite="Strict")


def sender() -> Literal["own", "foreign", "unknown"]:
    """Whose page sent the request, as far as its browser says; programs say nothing.

    `Sec-Fetch-Site` is what browsers send to https and to this computer; elsewhere `Origin` has to do. Its scheme is
    not compared: a proxy may have taken the encryption off.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return "own" if site in {"same-origin", "none"} else "foreign"  # none: the person, not a page
    origin = request.headers.get("Origin")
    if origin is None:
        return "unknown"
    return "own" if urlsplit(origin).netloc == request.host else "foreign"


def _wants_page() -> bool:
    is_page = request.method in {"GET", "HEAD"} and not request.path.startswith("/api/v1/")
    best = request.accept_mimetypes.best_match(["application/json", "text/html"])
    return is_page and best == "text/html"


def _is_known() -> bool:
    token = services().settings.api_token
    return token is None or _has_bearer(token.get_secret_value()) or is_signed_in()


def _has_bearer(token: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # WSGI hands headers over as Latin-1, whatever bytes they are.
    return scheme.lower() == "bearer" and _same(given.strip(), token, "latin-1")


def _same(given: str, token: str, encoding: str = "utf-8") -> bool:
    return hmac.compare_digest(given.encode(encoding, "replace"), token.encode())


@lru_cache(maxsize=4)
def _signer(token: str) -> TimestampSigner:
    key = hashlib.pbkdf2_hmac("sha256", token.encode(), _SALT, _KEY_ROUNDS)
    return TimestampSigner(key, salt=_SALT, digest_method=hashlib.sha256)
