"""Searches: taken at once, answered by a query worker, read by polling."""

from __future__ import annotations

from typing import Any, cast

from apiflask import APIBlueprint, HTTPError
from flask import request
from pydantic import ValidationError

from common.errors import UnknownImage, UnknownSearch
from common.messages import SearchQuery, SearchResult
from web.api.inputs import SearchAccepted, SearchRequest, WaitQuery, is_id
from web.documented import responses
from web.services import Services, services

blueprint = APIBlueprint("searches", __name__, tag="Searches")

# So many uploads may wait in Redis at once; beyond it a client is asked to come back.
MAX_QUEUED = 200


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
            429: "Too many searches wait already.",
            503: "Redis is away.",
        }
    )
)
def create_search() -> tuple[SearchAccepted, int, dict[str, str]]:
    """Search for similar pictures

    Send a picture as the multipart field `image`, or JSON with the `image_id` of an indexed one. The search is
    queued; read its result at `url`, best with `?wait=20`.
    """
    options, image = _read_request()
    current = services()
    _check_source(current, options, image)
    waiting = current.client.queues().query
    if waiting >= MAX_QUEUED:
        message = f"{waiting} searches wait already. Try again shortly; more query workers answer more searches."
        raise HTTPError(429, message, headers={"Retry-After": "2"})
    query = SearchQuery(**options.model_dump(exclude={"url"}))
    result = current.client.submit_search(query, image)
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

    With `wait` the answer comes as soon as the search has ended, and after that many seconds at the latest.
    """
    if not is_id(search_id):
        raise UnknownSearch
    current = services()
    with current.waiting(query_data.wait) as seconds:
        return current.client.search(search_id, seconds)


def _read_request() -> tuple[SearchRequest, bytes | None]:
    """The options of the search and the uploaded picture, from either kind of body and from the query string."""
    image = None
    if request.is_json:
        body = request.get_json()
        if not isinstance(body, dict):
            raise _invalid("_schema", "Send a JSON object.")
    elif request.mimetype == "multipart/form-data":
        if "image" in request.files:
            image = request.files["image"].read()
        elif "image" in request.form:
            raise _invalid("image", "Send the picture as a file, not as text.")
        elif not request.form and not request.files:
            raise HTTPError(400, "The multipart body is empty or malformed.")
        # A form sends its empty fields, too.
        body = {name: value for name, value in request.form.items() if value}
    else:
        raise HTTPError(415, 'Send the picture as multipart/form-data in the field "image", or send JSON.')
    try:
        return SearchRequest.model_validate({**request.args.to_dict(), **body}), image
    except ValidationError as error:
        raise _invalid_fields(error) from None


def _check_source(current: Services, options: SearchRequest, image: bytes | None) -> None:
    """Exactly one picture must be named, and it must be one that a worker can use."""
    if [image, options.image_id, options.url].count(None) != 2:
        raise _invalid("image", "Give exactly one of image (an upload), image_id and url.")
    if options.url is not None:
        if not current.settings.allow_url_queries:
            raise _invalid("url", "Searching by address is not enabled on this server (IMAGESEARCH_ALLOW_URL_QUERIES).")
        raise _invalid("url", "Searching by address is not available in this version: upload the picture instead.")
    if image is not None:
        current.decoder.check(image)
    else:
        store = current.collection.store()
        if store is None:
            raise UnknownImage(cast(str, options.image_id))
        store.entry(cast(str, options.image_id))


def _invalid(field: str, message: str) -> HTTPError:
    return HTTPError(422, "Validation error", detail={"body": {field: [message]}})


def _invalid_fields(error: ValidationError) -> HTTPError:
    fields: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else "_schema"
        fields.setdefault(name, []).append(item["msg"].removeprefix("Value error, "))
    return HTTPError(422, "Validation error", detail={"body": fields})
