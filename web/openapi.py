"""Completes the OpenAPI document that is generated from the views: their errors, exact schemas, the search form."""

from __future__ import annotations

import re
from typing import Any

from flask import current_app
from pydantic.json_schema import models_json_schema

from common.duplicates import DuplicateJob, DuplicatePage
from common.messages import MAX_QUERY_IMAGES, FileError, ImageInfo, ImagePage, IndexJob, SearchResult, Status
from web.api.folders import FolderPage
from web.api.inputs import (
    DuplicateAccepted,
    DuplicateRequest,
    IndexRequest,
    JobAccepted,
    SearchAccepted,
    SearchRequest,
    UploadRequest,
)
from web.health import Health, Readiness
from web.links import LINKS
from web.problems import MEDIA_TYPE, Problem
from web.services import services

Document = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
_OUTPUTS = (
    DuplicateAccepted,
    DuplicateJob,
    DuplicatePage,
    FileError,
    FolderPage,
    Health,
    ImageInfo,
    ImagePage,
    IndexJob,
    JobAccepted,
    Problem,
    Readiness,
    SearchAccepted,
    SearchResult,
    Status,
)
_TAGS = {
    "Searches": "Find similar pictures.",
    "Index jobs": "Take folders of the library into the collection.",
    "Images": "The indexed pictures.",
    "Duplicates": "Find pictures that are there twice or more.",
    "System": "State and health of the installation.",
}
_INPUTS = (DuplicateRequest, IndexRequest, SearchRequest, UploadRequest)
_SOURCES = {"image_id", "images", "url", "cursor"}
# Nobody needs the token for them, wherever it is asked for.
_OPEN = {"/healthz", "/readyz"}
# By the id of the operation.
_CACHED = ("get_thumbnail", "get_original", "get_query_picture")
_PARAMETERS: dict[str, tuple[str, str | int]] = {
    "number": ("which of the uploaded pictures, counted from 0", 0),
    "search_id": ("the search, as `POST /searches` gave it", "5f1c0a9be2d34c6f8a7b1e20"),
    "job_id": ("the job, as it was given when it was taken", "20250131-094500-3fa2c1"),
    "image_id": ("the indexed image, as it is in results and lists", "0123456789abcdef0123456789abcdef"),
}
_WAIT_EXAMPLE = 20
_BODY_EXAMPLES = {
    "DuplicateRequest": {"min_score": 0.97},
    "IndexRequest": {"folder": "photos/2024"},
    "SearchRequest": {"image_id": _PARAMETERS["image_id"][1], "k": 10},
}


def complete_document(document: Document) -> Document:
    """Fills in what the views' decorators cannot say."""
    # The generated schemas describe what is read; clients need to know what is written, computed fields included.
    _, schemas = models_json_schema(
        [*((model, "serialization") for model in _OUTPUTS), *((model, "validation") for model in _INPUTS)],
        ref_template=_REFERENCE,
    )
    document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    document["components"]["schemas"] = dict(sorted(schemas["$defs"].items()))
    _describe_form(document["components"]["schemas"]["UploadRequest"])
    _describe_sources(document["components"]["schemas"]["SearchRequest"])
    document["paths"]["/api/v1/searches"]["post"]["requestBody"] = _search_body()
    names = _operation_names()
    reading = services().settings.require_auth == "read"
    for path, item in document["paths"].items():
        for method, operation in item.items():
            operation["operationId"] = names[method, path]
            if reading and path not in _OPEN:
                _guard(operation)
            _describe_parameters(operation)
            _describe_body(operation)
            _describe_caching(operation)
            _describe_errors(operation)
            _describe_headers(operation["responses"])
            _add_links(operation)
            operation["responses"] = dict(sorted(operation["responses"].items()))
    return document


def successful(operation: Document) -> Document:
    """The answer of an operation that went well."""
    response: Document = operation["responses"][min(operation["responses"])]
    return response


def _guard(operation: Document) -> None:
    """Where reading needs the token, nearly everything does."""
    operation["security"] = [{"token": []}]
    operation["responses"].setdefault("401", {"description": "The token is missing or wrong."})


def _operation_names() -> dict[tuple[str, str], str]:
    """The name of the view for each method and path: what generated clients call their functions."""
    return {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)): rule.endpoint.rpartition(".")[2]
        for rule in current_app.url_map.iter_rules()
        for method in rule.methods or ()
    }


def _describe_form(schema: Document) -> None:
    """In a form everything is text; the generated schema describes what it is parsed to."""
    fields = schema["properties"]
    # They make sense only without a picture, and JSON is simpler.
    for name in _SOURCES - {"images"}:
        del fields[name]
    schema["required"] = ["image"]
    number = r"\s*-?\d+(\.\d+)?\s*"
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    described: dict[str, Document] = {
        "image": {**files, "minItems": 1, "maxItems": MAX_QUERY_IMAGES},
        "crop": {"type": "string", "pattern": rf"^{number}(,{number}){{3}}$"},
        "weights": {"type": "string", "pattern": rf"^{number}(,{number})*$"},
        "images": {"type": "string", "contentMediaType": "application/json", "contentSchema": fields["images"]},
    }
    for name, field in described.items():
        fields[name] = {**field, "description": fields[name].pop("description")}


def _describe_sources(schema: Document) -> None:
    """JSON asks for one kind of thing; null is as good as nothing."""
    absent: Document = {name: {"maxItems": 0} if name == "images" else {"type": "null"} for name in _SOURCES}
    given: Document = {name: {"minItems": 1} if name == "images" else {"type": "string"} for name in _SOURCES}
    schema["oneOf"] = [
        {"required": [name], "properties": {**absent, name: given[name]}} for name in sorted(_SOURCES - {"cursor"})
    ]
    beside = dict.fromkeys(set(schema["properties"]) - {"cursor", "k"}, False)
    schema["oneOf"].append({"required": ["cursor"], "properties": {"cursor": given["cursor"], **beside}})


def _describe_parameters(operation: Document) -> None:
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        schema.pop("title", None)
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        if parameter["in"] == "path" and parameter["name"] in _PARAMETERS:
            parameter["description"], parameter["example"] = _PARAMETERS[parameter["name"]]
        if parameter["name"] == "wait":
            parameter["example"] = _WAIT_EXAMPLE


def _describe_body(operation: Document) -> None:
    if "requestBody" not in operation:
        return
    operation["requestBody"]["required"] = True
    operation["responses"].setdefault("413", {"description": "The body is too large."})
    for body in operation["requestBody"]["content"].values():
        example = _BODY_EXAMPLES.get(body["schema"]["$ref"].rpartition("/")[2])
        if example is not None:
            body["example"] = example


def _describe_caching(operation: Document) -> None:
    """Pictures have an `ETag`, and the originals can be read in parts; the framework does it for the views."""
    if operation["operationId"] not in _CACHED:
        return
    parameters = operation.setdefault("parameters", [])
    parameters.append(_header("If-None-Match", "the `ETag` of what is there already: 304 if it is still the same"))
    tag = {"ETag": _text("what the picture is known by; send it as `If-None-Match`")}
    operation["responses"]["304"] = {"description": "It is still the one with this `ETag`.", "headers": tag}
    operation["responses"]["200"]["headers"] = tag
    if "206" in operation["responses"]:
        parameters.append(_header("Range", "only this part of the file, such as `bytes=0-1023`"))
        part = {"Content-Range": _text("which part it is, and of how many bytes")}
        operation["responses"]["206"]["headers"] = {**tag, **part}
        operation["responses"]["416"]["headers"] = part


def _describe_errors(operation: Document) -> None:
    for status, response in operation["responses"].items():
        if status >= "400" and not response.get("content"):
            response["content"] = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}}


def _describe_headers(responses: Document) -> None:
    again = {"Retry-After": {**_text("seconds after which to try again"), "schema": {"type": "integer"}}}
    by_status = {
        "202": {"Location": {**_text("where the state and the result are"), "required": True}},
        "401": {"WWW-Authenticate": _text("that a bearer token is wanted")},
        "429": again,
        "503": again,
    }
    for status, headers in by_status.items():
        if status in responses:
            responses[status].setdefault("headers", {}).update(headers)


def _add_links(operation: Document) -> None:
    links = LINKS.get(operation["operationId"])
    if links:
        successful(operation)["links"] = {name: link.described() for name, link in links.items()}


def _header(name: str, description: str) -> Document:
    return {"in": "header", "name": name, "required": False, **_text(description)}


def _text(description: str) -> Document:
    return {"description": description, "schema": {"type": "string"}}


def _search_body() -> Document:
    return {
        "content": {
            "multipart/form-data": {
                "schema": {"$ref": _REFERENCE.format(model="UploadRequest")},
                "encoding": {"image": {"contentType": "image/*"}},
            },
            "application/json": {"schema": {"$ref": _REFERENCE.format(model="SearchRequest")}},
        },
    }
