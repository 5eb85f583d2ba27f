"""Where people sign in with the server's token, and out again. Works without scripts."""

from __future__ import annotations

from urllib.parse import urlsplit

from apiflask import APIBlueprint, HTTPError
from flask import Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from web import access
from web.services import services
from web.texts import text

blueprint = APIBlueprint("sign_in", __name__, enable_openapi=False)

HOME = "/"


@blueprint.get("/sign-in")
def sign_in_page() -> BaseResponse:
    """The page that asks for the token; whoever needs none, or has given it, is sent on."""
    target = _target(request.args.get("next", HOME))
    if services().settings.api_token is None or access.is_signed_in():
        return redirect(target, 303)
    return _page(target)


@blueprint.post("/sign-in")
def sign_in() -> BaseResponse:
    """Takes the token: as a form from that page, or as JSON from a script."""
    _refuse_other_sites()
    if services().settings.api_token is None:
        return redirect(HOME, 303)
    body = request.get_json() if request.is_json else request.form
    given = body.get("token") if hasattr(body, "get") else None
    if not isinstance(given, str) or not access.is_token(given.strip()):
        if request.is_json:
            raise HTTPError(401, text("sign_in.wrong"), headers={"WWW-Authenticate": 'Bearer realm="imagesearch"'})
        return _page(_target(request.form.get("next", HOME)), wrong=True)
    response = Response(status=204) if request.is_json else _see_other(_target(request.form.get("next", HOME)))
    access.sign_in(response)
    return response


@blueprint.post("/sign-out")
def sign_out() -> BaseResponse:
    """Forgets who is at the browser."""
    _refuse_other_sites()
    response = _see_other(HOME)
    access.sign_out(response)
    # What the browser has kept of the pictures goes, too, where it knows this header (over https).
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def _page(target: str, *, wrong: bool = False) -> Response:
    settings = services().settings
    page = render_template("sign_in.html", target=target, wrong=wrong, reading=settings.require_auth == "read")
    response = make_response(page, 401 if wrong else 200)
    response.headers["Cache-Control"] = "no-store"
    return response


def _see_other(target: str) -> Response:
    response = Response(status=303)
    response.headers["Location"] = target
    return response


def _refuse_other_sites() -> None:
    if access.sender() == "foreign":
        raise HTTPError(403, "This was sent by the page of another site.")


def _target(wanted: str) -> str:
    """Where to go on: a place on this server, whatever an address that somebody was given says."""
    # Browsers take a backslash for a slash, and leave out tabs and line ends: //host would be another site.
    is_plain = wanted.startswith("/") and "\\" not in wanted and wanted.isprintable()
    if not is_plain or wanted.startswith("//") or urlsplit(wanted).netloc:
        return HOME
    return wanted
