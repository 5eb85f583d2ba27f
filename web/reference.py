"""The OpenAPI document, arranged for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

_EXAMPLE_IDS = {
    "search_id": "5f1c0a9be2d34c6f8a7b1e20",
    "job_id": "20250131-094500-3fa2c1",
    "image_id": "0123456789abcdef0123456789abcdef",
}
_EXAMPLE_BODIES = {
    "SearchRequest": {"image_id": _EXAMPLE_IDS["image_id"], "k": 10},
    "IndexRequest": {"folder": "photos/2024"},
    "DuplicateRequest": {"min_score": 0.97},
}
_ORDER = ("POST", "GET")


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a body."""

    name: str
    place: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: str
    description: str
    content: str


@dataclass(frozen=True)
class Operation:
    """One call of the API."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    needs_token: bool
    fields: list[Field]
    answers: list[Answer]
    schemas: list[tuple[str, list[Field]]]
    example: str


@dataclass(frozen=True)
class Section:
    """The calls for one kind of thing."""

    name: str
    description: str
    operations: list[Operation]


def sections(document: Document) -> list[Section]:
    """The operations of a document by their tags, in the order of the tags."""
    found: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path in sorted(document["paths"], key=lambda path: (path.count("/"), path)):
        for method, operation in sorted(
            document["paths"][path].items(), key=lambda item: _ORDER.index(item[0].upper())
        ):
            found[operation["tags"][0]].append(_operation(document, method.upper(), path, operation))
    return [Section(tag["name"], tag["description"], found[tag["name"]]) for tag in document["tags"]]


def _operation(document: Document, method: str, path: str, operation: Document) -> Operation:
    anchor = f"{method}{path}".lower().translate(str.maketrans("/{}_", "----")).strip("-")
    return Operation(
        anchor=anchor,
        method=method,
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        needs_token="security" in operation,
        fields=[*_parameters(operation), *_body_fields(document, operation)],
        answers=[_answer(status, answer) for status, answer in sorted(operation["responses"].items())],
        schemas=_answer_schemas(document, operation),
        example=_example(method, path, operation),
    )


def _parameters(operation: Document) -> list[Field]:
    return [
        Field(item["name"], item["in"], _type(item["schema"]), item.get("required", False), item.get("description", ""))
        for item in operation.get("parameters", [])
    ]


def _body_fields(document: Document, operation: Document) -> list[Field]:
    content = operation.get("requestBody", {}).get("content", {})
    fields: dict[str, Field] = {}
    for media_type, body in content.items():
        place = "form" if media_type.startswith("multipart") else "JSON"
        for field in _schema_fields(document, _name(body["schema"]), place):
            known = fields.get(field.name)
            both = f"{known.place}, {place}" if known else place
            fields[field.name] = Field(field.name, both, field.type, field.required, field.description)
    # What only a form can carry is the upload: it stands first.
    return sorted(fields.values(), key=lambda field: field.place != "form")


def _schema_fields(document: Document, name: str, place: str = "") -> list[Field]:
    schema = document["components"]["schemas"][name]
    required = schema.get("required", [])
    return [
        Field(key, place, _type(value), key in required, value.get("description", ""))
        for key, value in schema.get("properties", {}).items()
    ]


def _answer(status: str, answer: Document) -> Answer:
    return Answer(status, answer["description"], ", ".join(answer.get("content", {})))


def _answer_schemas(document: Document, operation: Document) -> list[tuple[str, list[Field]]]:
    """The schemas of the successful answers, and of those that they are made of."""
    names: list[str] = []
    waiting = [answer for status, answer in operation["responses"].items() if status < "400"]
    found: list[Any] = list(waiting)
    while found:
        value = found.pop(0)
        if isinstance(value, dict):
            reference = value.get("$ref")
            if reference and (name := _name(value)) not in names:
                names.append(name)
                found.append(document["components"]["schemas"][name])
            found.extend(value.values())
        elif isinstance(value, list):
            found.extend(value)
    return [(name, _schema_fields(document, name)) for name in names]


def _name(schema: Document) -> str:
    return str(schema["$ref"]).rsplit("/", 1)[1]


def _type(schema: Document) -> str:
    """A schema in a few words, such as `integer, 1 to 1000`."""
    if "$ref" in schema:
        return _name(schema)
    if schema.get("format") == "binary":
        return "file"
    if "anyOf" in schema:
        known = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(_type(part) for part in known)
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "four numbers"
    name = str(schema.get("format") or schema.get("type", "any"))
    if "minimum" in schema and "maximum" in schema:
        return f"{name}, {schema['minimum']:g} to {schema['maximum']:g}"
    return name


def _example(method: str, path: str, operation: Document) -> str:
    for name, value in _EXAMPLE_IDS.items():
        path = path.replace(f"{{{name}}}", value)
    parts = ["curl"]
    content = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in content:
        parts.append("-F image=@picture.jpg -F k=10")
    elif content:
        body = json.dumps(_EXAMPLE_BODIES[_name(content["application/json"]["schema"])])
        parts.append(f"-H 'Content-Type: application/json' -d '{body}'")
    elif method == "POST":
        parts.append("-X POST")
    if path.endswith(("/thumbnail", "/original")):
        parts.append("-o picture.jpg")
    wait = "?wait=20" if path.startswith("/api/v1/searches/") else ""
    return " ".join([*parts, f"http://localhost:8000{path}{wait}"])
