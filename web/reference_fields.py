"""The fields of calls and types, as the documentation page shows them and asks for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from web.openapi import Document

JSON = "application/json"
PLACES = {"multipart/form-data": "form", JSON: "JSON"}
SAMPLE_FILE = "picture.jpg"

_KINDS = {"integer": "number", "number": "number", "boolean": "boolean", "object": "json"}


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a body or of an answer.

    Attributes:
        name: Its name.
        places: Where it is sent: path, query, header, form or JSON; none in an answer.
        type: The type for people.
        kind: What it is put in with: files, choice, boolean, number, numbers, json or text.
        required: Whether it must be there.
        description: What it means.
        choices: All possible values, if they are named.
        example: A value that shows what is meant; None where there is none.
        types: The names of the schemas that it consists of.
    """

    name: str
    places: tuple[str, ...]
    type: Markup
    kind: str
    required: bool
    description: str
    choices: tuple[str, ...]
    example: Any
    types: tuple[str, ...]

    def for_script(self) -> Document:
        """What the page's script needs to ask for a value and to send it."""
        data: Document = {"name": self.name, "in": self.places, "kind": self.kind}
        if self.required:
            data["required"] = True
        if self.choices:
            data["choices"] = self.choices
        if self.example is not None:
            data["example"] = self.example
        return data


def parameters(operation: Document) -> list[Field]:
    """The parameters of an operation."""
    return [
        _field(item["name"], item["schema"], (item["in"],), item.get("required", False), item)
        for item in operation.get("parameters", [])
    ]


def body_fields(document: Document, operation: Document) -> list[Field]:
    """The fields of an operation's body; those that both kinds of body have, once."""
    fields: dict[str, Field] = {}
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        for field in schema_fields(document, schema_name(body["schema"]), PLACES[media_type], body.get("example")):
            known = fields.get(field.name)
            # In a form everything is text; the schema of the JSON says more.
            fields[field.name] = replace(field, places=(*known.places, *field.places)) if known else field
    # What only a form can carry is the upload: it stands first.
    return sorted(fields.values(), key=lambda field: field.places != ("form",))


def schema_fields(
    document: Document, name: str, place: str | None = None, examples: Document | None = None
) -> list[Field]:
    """The fields of a schema of a document."""
    schema = document["components"]["schemas"][name]
    required = schema.get("required", [])
    places = (place,) if place else ()
    return [
        _field(key, value, places, key in required, {"example": (examples or {}).get(key), **value})
        for key, value in schema.get("properties", {}).items()
    ]


def schema_name(reference: Document) -> str:
    """The name of the schema that is referred to."""
    return str(reference["$ref"]).rpartition("/")[2]


def names_in(value: Any) -> list[str]:
    """The names of the schemas that a value refers to."""
    if isinstance(value, dict):
        own = [schema_name(value)] if "$ref" in value else []
        return [*own, *(name for part in value.values() for name in names_in(part))]
    if isinstance(value, list):
        return [name for part in value for name in names_in(part)]
    return []


def _field(name: str, schema: Document, places: tuple[str, ...], required: bool, about: Document) -> Field:
    kind = _kind(schema)
    return Field(
        name=name,
        places=places,
        type=_type(schema),
        kind=kind,
        required=required,
        description=about.get("description", ""),
        choices=tuple(map(str, schema.get("enum", ()))),
        example=SAMPLE_FILE if kind == "files" else about.get("example"),
        types=tuple(names_in(schema)),
    )


def _known_parts(schema: Document) -> list[Document]:
    """What a value can be, other than null."""
    return [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]


def _items(schema: Document) -> Document:
    """What a list consists of."""
    items: Document = schema.get("items") or schema.get("prefixItems", [{}])[0]
    return items


def _kind(schema: Document) -> str:
    schema = _known_parts(schema)[0]
    if "enum" in schema:
        return "choice"
    if "$ref" in schema:
        return "json"
    if schema.get("type") == "array":
        items = _items(schema)
        if items.get("format") == "binary":
            return "files"
        return "numbers" if items.get("type") in {"number", "integer"} else "json"
    return _KINDS.get(str(schema.get("type")), "text")


def _type(schema: Document) -> Markup:
    """A schema in a few words, such as `integer, 1 to 1000`."""
    if "$ref" in schema:
        return Markup('<a href="#type-{0}">{0}</a>').format(schema_name(schema))
    if "anyOf" in schema:
        return Markup(" or ").join(_type(part) for part in _known_parts(schema))
    if "enum" in schema:
        return Markup(" | ").join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return Markup("list of {} numbers").format(len(schema["prefixItems"]))
        items = _items(schema)
        return Markup("files") if items.get("format") == "binary" else Markup("list of {}").format(_type(items))
    name = str(schema.get("format") or schema.get("type", "any"))
    if "minimum" in schema and "maximum" in schema:
        name = f"{name}, {schema['minimum']:g} to {schema['maximum']:g}"
    return Markup.escape(name)
