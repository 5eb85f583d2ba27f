"""Searches: taken at once, answered by a query worker, read by polling."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from apiflask import APIBlueprint, HTTPError
from flask import Response, request
from pydantic import ValidationError

from common.errors import InvalidCursor, UnknownPicture, UnknownSearch
from common.ids import is_id
from common.messages import MAX_QUERY_IMAGES, QueryImage, SearchQuery, SearchResult
from web.api.inputs import SearchAccepted, SearchRequest, UploadRequest, WaitQuery
from web.documented import BINARY, responses
from web.limits import TOO_MANY, require_room
from web.live.handover import is_connected
from web.services import Services, services
from web.stopping import server_is_stopping

blueprint = APIBlueprint("searches", __name__, tag="Searches")


@blueprint.post("/searches")
@blueprint.output(SearchAccepted, status_code=202, description="Taken; the result will be at `url`.")
@blueprint.doc(
    responses=responses(
        {
            400: "The body is no JSON or no multipart form.",
            404: "No such image.",
            413: "The picture is too large.",
            415: "Not a picture in a supported format, or a body of another kind.",
            422: "A value cannot be used, or the picture is damaged.",
            429: TOO_MANY,
            503: "Too many searches wait already, Redis is away or full, or too many pictures are being fetched from "
            "their addresses.",
        }
    )
)
def create_search() -> tuple[SearchAccepted, int, dict[str, str]]:
    """Search for similar pictures

    Send a picture as the multipart field `image`, or JSON with the `image_id` of an indexed one. The search is
    queued; read its result at `url`, best with `?wait=20`.

    Several pictures are searched for together: repeat `image`, with `weights` if they do not count the same, or send
    `images`, the indexed ones with their weights, as JSON; a form may hold both. A negative weight means less like
    this.

    A result that has a `next_cursor` goes on: send that as `cursor`. The next page has the results after the last one
    in the order of score and path, with the ranks that follow, whatever was indexed or removed meanwhile.
    """
    began = time.perf_counter()  # nothing of the body has been read yet
    require_room("search")  # before the body is read
    options, uploads = _read_request()
    current = services()
    _check_source(options, uploads)
    _check_pictures(current, options, uploads)
    if options.url is not None:
        current.client.check_room()
        uploads = [_fetched(current, options.url)]
    result = _submit(current, options, uploads, began)
    accepted = SearchAccepted(id=result.id, state=result.state, url=f"/api/v1/searches/{result.id}")
    return accepted, 202, {"Location": accepted.url}


@blueprint.get("/searches/<search_id>")
@blueprint.input(WaitQuery, location="query")
@blueprint.output(SearchResult)
@blueprint.doc(
    responses=responses({404: "Unknown, or expired.", 422: "A wait that is out of range.", 503: "Redis is away."})
)
def get_search(search_id: str, query_data: WaitQuery) -> SearchResult:
    """Result of a search

    With `wait` the answer comes as soon as the search has ended, and after that many seconds at the latest. A search
    that nobody asks for in 30 seconds before its turn comes is not computed: its state is then `failed`. In every
    state `query` says what was searched for. `percentile` is the score as a calibrated figure: it can be compared from
    query to query and from model to model.
    """
    if not is_id(search_id):
        raise UnknownSearch
    current = services()
    is_there = partial(is_connected, request.environ)
    with current.waiting(query_data.wait) as seconds:
        # A server that stops answers at once: the client asks again, and then another one.
        return current.client.search(search_id, seconds, server_is_stopping, is_there)


@blueprint.delete("/searches/<search_id>")
@blueprint.output({}, status_code=204, description="Taken note of.")
@blueprint.doc(responses=responses({404: "Unknown, or expired.", 503: "Redis is away."}))
def withdraw_search(search_id: str) -> tuple[str, int]:
    """Stop waiting for a search

    Unless somebody else asks for it within three seconds, it is not computed when its turn comes. Results that are
    there stay until they expire.
    """
    if not is_id(search_id):
        raise UnknownSearch
    services().client.withdraw_search(search_id)
    return "", 204


@blueprint.get("/searches/<search_id>/pictures/<int:number>")
@blueprint.doc(
    responses=responses(
        {
            200: {"description": "The preview.", "content": {"image/jpeg": BINARY}},
            404: "Not made yet, never made, or expired.",
            503: "Redis is away.",
        }
    )
)
def get_query_picture(search_id: str, number: int) -> Response:
    """Preview of an uploaded picture that was searched for

    The whole upright picture, at most 1024 pixels on the longer side, as a JPEG; uploads are counted from 0. It is made
    a moment after the result and expires with it. `picture_url` in the `query` of a result names it.
    """
    if not is_id(search_id):
        raise UnknownPicture
    response = Response(services().client.query_picture(search_id, number), mimetype="image/jpeg")
    response.add_etag()
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    response.make_conditional(request)
    return response


def _read_request() -> tuple[SearchRequest, list[bytes]]:
    """The options of the search and the uploaded pictures, from either kind of body and from the query string."""
    kind: type[SearchRequest] = SearchRequest
    uploads: list[bytes] = []
    if request.is_json:
        body = request.get_json()
        if not isinstance(body, dict):
            raise _invalid("_schema", "Send a JSON object.")
    elif request.mimetype == "multipart/form-data":
        if "image" in request.form or "image" in request.args:
            raise _invalid("image", "Send the picture as a file, not as text.")
        if not request.form and not request.files:
            raise HTTPError(400, "The multipart body is empty or malformed.")
        kind, uploads = UploadRequest, [file.read() for file in request.files.getlist("image")]
        # A form sends its empty fields, too.
        body = {name: value for name, value in request.form.items() if value}
    else:
        raise HTTPError(415, 'Send the picture as multipart/form-data in the field "image", or send JSON.')
    with _checked():
        return kind.model_validate({**request.args.to_dict(), **body}), uploads


def _check_source(options: SearchRequest, uploads: list[bytes]) -> None:
    """There must be one kind of query, and nothing beside it that it cannot take into account."""
    sources = [uploads or options.images or None, options.image_id, options.url, options.cursor]
    if sources.count(None) != len(sources) - 1:
        message = "Give exactly one of image (uploads, with or without images), images, image_id, url and cursor."
        raise _invalid("image", message)
    if options.cursor is not None:
        for field in sorted(options.model_fields_set - {"cursor", "k"}):
            raise _invalid(field, "The next page of a search has its options: only k can be given beside cursor.")
    weights = _weights(options)
    if weights and len(weights) != len(uploads):
        raise _invalid("weights", f"There are {len(weights)} weights for {len(uploads)} uploaded pictures.")
    if len(uploads) + len(options.images) > MAX_QUERY_IMAGES:
        raise _invalid("image", f"A query has at most {MAX_QUERY_IMAGES} pictures.")


def _check_pictures(current: Services, options: SearchRequest, uploads: list[bytes]) -> None:
    """All pictures must be such that a worker can use them."""
    if options.url is not None and not current.settings.allow_url_queries:
        raise _invalid("url", "Searching by address is not enabled on this server (IMAGESEARCH_ALLOW_URL_QUERIES).")
    for upload in uploads:
        current.headers.check(upload)
    stored = [image.image_id for image in options.images]
    if options.image_id is not None:
        stored.append(options.image_id)
    for image_id in stored:
        current.collection.find(image_id)


def _fetched(current: Services, url: str) -> bytes:
    """The picture at an address; from here on it is like an uploaded one."""
    picture = current.fetcher.fetch(url)
    current.headers.check(picture)
    return picture


def _submit(current: Services, options: SearchRequest, uploads: list[bytes], began: float) -> SearchResult:
    if options.cursor is not None:
        if not is_id(options.cursor):
            raise InvalidCursor
        k = options.k if "k" in options.model_fields_set else None
        return current.client.continue_search(options.cursor, k, began)
    weights = _weights(options)
    images = [QueryImage(image_id=image.image_id, weight=image.weight) for image in options.images]
    # A single upload without a weight needs no list.
    if len(uploads) + len(images) > 1 or weights:
        images = [*(QueryImage(weight=weight) for weight in weights or (1.0,) * len(uploads)), *images]
    with _checked():
        query = SearchQuery(
            image_id=options.image_id,
            images=tuple(images),
            k=options.k,
            folder=options.folder,
            min_score=options.min_score,
            crop=options.crop,
        )
    return current.client.submit_search(query, uploads, began)


def _weights(options: SearchRequest) -> tuple[float, ...]:
    """Those of the uploaded pictures, if they were given."""
    return options.weights if isinstance(options, UploadRequest) else ()


@contextmanager
def _checked() -> Iterator[None]:
    """Names the fields that are not accepted in the block."""
    try:
        yield
    except ValidationError as error:
        raise _invalid_fields(error) from None


def _invalid(field: str, message: str) -> HTTPError:
    return HTTPError(422, "Validation error", detail={"body": {field: [message]}})


def _invalid_fields(error: ValidationError) -> HTTPError:
    fields: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else "_schema"
        fields.setdefault(name, []).append(item["msg"].removeprefix("Value error, "))
    return HTTPError(422, "Validation error", detail={"body": fields})
