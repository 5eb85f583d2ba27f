"""Completes the OpenAPI document that is generated from the views: their errors, exact schemas, the search form."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from common.duplicates import DuplicatePage
from common.messages import FileError, ImageInfo, ImagePage, IndexJob, SearchResult, Status
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
from web.problems import MEDIA_TYPE, Problem

Document = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
_OUTPUTS = (
    DuplicateAccepted,
    DuplicatePage,
    FileError,
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


def complete_document(document: Document) -> Document:
    """Fills in what the views' decorators cannot say."""
    # The generated schemas describe what is read; clients need to know what is written, computed fields included.
    _, schemas = models_json_schema(
        [*((model, "serialization") for model in _OUTPUTS), *((model, "validation") for model in _INPUTS)],
        ref_template=_REFERENCE,
    )
    document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    document["components"]["schemas"] = dict(sorted(schemas["$defs"].items()))
    for item in document["paths"].values():
        for operation in item.values():
            _describe_parameters(operation)
            _describe_errors(operation)
    document["paths"]["/api/v1/searches"]["post"]["requestBody"] = _search_body()
    return document


def _describe_parameters(operation: Document) -> None:
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        schema.pop("title", None)
        if "description" in schema:
            parameter["description"] = schema.pop("description")


def _describe_errors(operation: Document) -> None:
    for status, response in operation["responses"].items():
        if status >= "400" and not response.get("content"):
            response["content"] = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}}


def _search_body() -> Document:
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"$ref": _REFERENCE.format(model="UploadRequest")}},
            "application/json": {"schema": {"$ref": _REFERENCE.format(model="SearchRequest")}},
        },
    }
