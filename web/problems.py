"""Every error leaves as `application/problem+json` (RFC 9457), or as a page for somebody at a browser."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, cast

import redis
from apiflask import APIFlask, HTTPError
from flask import Response, current_app, render_template, request
from pydantic import Field
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.http import HTTP_STATUS_CODES

from common import errors
from common.error_status import status_of
from common.messages import Message
from web import fetching
from web.services import services

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# Beside those of all errors that are not the web tier's own. The first match counts: a class stands before its base.
_STATUS: tuple[tuple[type[errors.ImageSearchError], int], ...] = (
    (fetching.FetchedTooLarge, 413),
    (fetching.FetchedPage, 415),
    (fetching.FetchError, 422),
)
_RETRY_SECONDS = "2"
_CHUNK_BYTES = 1 << 20


class FieldProblem(Message):
    """What is wrong with one field of the request."""

    field: str
    message: str


class Problem(Message):
    """An error, as RFC 9457 describes it."""

    type: str = Field("about:blank", description="stays the same for the same kind of error")
    title: str
    status: int
    detail: str = Field(description="what went wrong this time, and what to do about it")
    errors: list[FieldProblem] = Field(default_factory=list, description="the fields that were not accepted, if any")


class OriginalMissing(errors.ImageSearchError):
    """The image file is no longer there."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is in the collection, but its file cannot be read on this host: it was moved or deleted, "
            "or the library is not mounted here. Index its folder again to bring the collection up to date."
        )


def register(app: APIFlask) -> None:
    """Installs the error handlers."""
    app.register_error_handler(errors.ImageSearchError, _own_error)
    app.register_error_handler(OriginalMissing, _original_missing)
    app.register_error_handler(redis.RedisError, _redis_error)
    app.register_error_handler(RecursionError, _too_deep)
    app.register_error_handler(HTTPError, _api_error)
    app.register_error_handler(RequestEntityTooLarge, _too_large)
    app.register_error_handler(HTTPException, _http_error)


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The answer for a problem: JSON, or a page where a browser asks for one outside the API."""
    # JSON may bring halves of surrogate pairs, which no answer can hold; the detail repeats what was sent.
    problem = problem.model_copy(update={"detail": problem.detail.encode(errors="replace").decode()})
    best = request.accept_mimetypes.best_match([MEDIA_TYPE, "application/json", "text/html"])
    if best == "text/html" and not request.path.startswith("/api/"):
        response = current_app.make_response(render_template("error.html", problem=problem))
    else:
        exclude = set() if problem.errors else {"errors"}
        response = Response(problem.model_dump_json(exclude=exclude), mimetype=MEDIA_TYPE)
    response.status_code = problem.status
    response.headers.update(headers or {})
    return response


def _own_error(error: errors.ImageSearchError) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None) or status_of(error)
    if status == 500:
        logger.error("%s", error, exc_info=error)
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, errors.ServiceUnavailable) else None
    return problem_response(describe(error, status), headers)


def _original_missing(error: OriginalMissing) -> Response:
    return problem_response(describe(error, 404))


def describe(error: errors.ImageSearchError, status: int) -> Problem:
    """The problem that one of the product's own errors is, with the status that it is answered with."""
    kind = type(error)
    title = (kind.__doc__ or "").strip().splitlines()[0].partition(":")[0].rstrip(".")
    fields = [FieldProblem(field="url", message=str(error))] if isinstance(error, fetching.FetchError) else []
    return Problem(
        type=f"urn:imagesearch:{errors.kind_of(error)}", title=title, status=status, detail=str(error), errors=fields
    )


def _redis_error(error: redis.RedisError) -> Response:
    # Connection failures have a text of their own; this is a Redis that answers, but refuses (out of memory, …).
    logger.error("Redis: %s", error)
    problem = Problem(title=HTTP_STATUS_CODES[503], status=503, detail=f"Redis refused the request: {error}")
    return problem_response(problem, {"Retry-After": _RETRY_SECONDS})


def _too_deep(error: RecursionError) -> Response:
    # The JSON parser gives up so on brackets in brackets; nothing of ours recurses over a request.
    logger.warning("%s", error)
    detail = "The request is nested too deeply."
    return problem_response(Problem(title=HTTP_STATUS_CODES[400], status=400, detail=detail))


def _api_error(error: HTTPError) -> Response:
    fields = [
        FieldProblem(field=field, message=message.removeprefix("Value error, "))
        for place in cast("dict[str, Any]", error.detail).values()
        for field, messages in place.items()
        for message in messages
    ]
    detail = "; ".join(f"{item.field}: {item.message}" if item.field != "_schema" else item.message for item in fields)
    problem = Problem(
        title=HTTP_STATUS_CODES.get(error.status_code, "Error"),
        status=error.status_code,
        detail=detail or error.message or "",
        errors=fields,
    )
    return problem_response(problem, cast("dict[str, str]", error.headers))


def _too_large(error: RequestEntityTooLarge) -> Response:
    _drain(4 * current_app.config["MAX_CONTENT_LENGTH"])
    limit = services().settings.max_upload_bytes
    detail = f"The upload is too large; at most {limit:,} bytes are accepted (IMAGESEARCH_MAX_UPLOAD_BYTES)."
    return problem_response(Problem(title=error.name, status=413, detail=detail))


def _drain(limit: int) -> None:
    """Reads what the client still sends: closing on it would reset the connection before it sees the answer.

    What announces far too much is not waited for.
    """
    if (request.content_length or 0) > limit:
        return
    stream = request.environ["wsgi.input"]
    with suppress(HTTPException):  # it is broken, or too slow
        while limit > 0 and (chunk := stream.read(_CHUNK_BYTES)):
            limit -= len(chunk)


def _http_error(error: HTTPException) -> Response:
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    status = error.code or 500
    detail = error.description or ""
    if status == 404:
        detail = f"There is nothing at {request.path}."
    elif status == 400 and request.is_json:
        detail = "The body is not valid JSON."
    elif status == 405:
        detail = f"{request.method} is not possible at {request.path}."
    return problem_response(Problem(title=error.name, status=status, detail=detail), headers)
