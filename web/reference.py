"""The OpenAPI document, arranged for people: what the documentation page shows, and what its script works with."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from common.messages import MAX_DEPTH, MAX_K, MAX_QUERY_IMAGES
from common.settings import Settings
from web.api.inputs import MAX_PAGE, MAX_WAIT_SECONDS
from web.openapi import Document, successful
from web.problems import MEDIA_TYPE
from web.reference_fields import JSON, PLACES, SAMPLE_FILE, Field, body_fields, names_in, parameters, schema_fields

_ORDER = ("POST", "GET", "DELETE")


@dataclass(frozen=True)
class Answer:
    """A response; `types` are the names of the schemas that it consists of."""

    status: str
    description: str
    content: str
    types: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """One call of the API."""

    anchor: str
    name: str
    method: str
    path: str
    summary: str
    description: list[str]
    needs_token: bool
    fields: list[Field]
    bodies: list[str]
    answers: list[Answer]
    types: list[str]
    expects: str
    links: list[Document]

    def example(self, site: str, *, with_token: bool) -> str:
        """A call as a command for curl; the script shows the same, and in other languages.

        Args:
            site: Scheme, host and port of the server.
            with_token: Whether the server has a token.
        """
        sent = [field for field in self.fields if field.example is not None]
        path = self.path
        for field in sent:
            path = path.replace(f"{{{field.name}}}", str(field.example))
        query = "&".join(f"{field.name}={field.example}" for field in sent if "query" in field.places)
        # In a form the file alone; the other fields would be searched for beside it.
        body = {field.name: field.example for field in sent if field.places == ("form",) or self.bodies[:1] == ["JSON"]}
        parts = self._options(body, with_token=with_token)
        parts.append(shlex.quote(f"{site}{path}{'?' if query else ''}{query}"))
        return "curl " + (" \\\n  ".join(parts) if len(parts) > 2 else " ".join(parts))

    def script_data(self) -> Document:
        """What the page's script needs to send the call."""
        return {
            "name": self.name,
            "method": self.method,
            "path": self.path,
            "token": self.needs_token,
            "bodies": self.bodies,
            "expects": self.expects,
            "fields": [field.for_script() for field in self.fields],
            "links": self.links,
        }

    def _options(self, body: Document, *, with_token: bool) -> list[str]:
        options = []
        if self.method != "GET" and not self.bodies:
            options.append(f"-X {self.method}")
        if self.needs_token and with_token:
            options.append("-H 'Authorization: Bearer TOKEN'")
        if self.bodies[:1] == ["JSON"]:
            text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
            options += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(text)}"]
        elif self.bodies:
            options += [f"-F {name}=@{value}" for name, value in body.items()]
        if self.expects == "file":
            options.append(f"-o {SAMPLE_FILE}")
        elif self.expects == "events":
            options.append("-N")
        return options


@dataclass(frozen=True)
class Section:
    """The calls for one kind of thing."""

    name: str
    description: str
    operations: list[Operation]


@dataclass(frozen=True)
class Type:
    """A schema that answers or requests consist of."""

    name: str
    description: list[str]
    fields: list[Field]


@dataclass(frozen=True)
class Reference:
    """The whole document."""

    sections: list[Section]
    types: list[Type]


def limits(settings: Settings) -> dict[str, int]:
    """The numbers that a client has to know."""
    return {
        "max_wait": MAX_WAIT_SECONDS,
        "max_page": MAX_PAGE,
        "max_pictures": MAX_QUERY_IMAGES,
        "max_upload_bytes": settings.max_upload_bytes,
        "max_k": MAX_K,
        "max_depth": MAX_DEPTH,
        "kept_seconds": settings.search_ttl_seconds,
        "max_queued": settings.max_queued_searches,
    }


def arrange(document: Document) -> Reference:
    """The operations of a document by their tags, in the order of the tags, and the types of the answers."""
    found: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path in sorted(document["paths"], key=lambda path: (path.count("/"), path)):
        for method, operation in sorted(
            document["paths"][path].items(), key=lambda item: _ORDER.index(item[0].upper())
        ):
            found[operation["tags"][0]].append(_operation(document, method.upper(), path, operation))
    sections = [Section(tag["name"], tag["description"], found[tag["name"]]) for tag in document["tags"]]
    named = [name for section in sections for call in section.operations for name in call.types]
    return Reference(sections, [_type(document, name) for name in _with_parts(document, ["Problem", *named])])


def _operation(document: Document, method: str, path: str, operation: Document) -> Operation:
    bodies = [PLACES[media_type] for media_type in operation.get("requestBody", {}).get("content", {})]
    answers = [_answer(status, answer) for status, answer in sorted(operation["responses"].items())]
    fields = [*parameters(operation), *body_fields(document, operation)]
    return Operation(
        anchor=_anchor(operation["operationId"]),
        name=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"],
        description=_paragraphs(operation),
        needs_token="security" in operation,
        fields=fields,
        bodies=bodies,
        answers=answers,
        types=[
            *(name for answer in answers for name in answer.types),
            *(name for field in fields for name in field.types),
        ],
        expects=_expected(successful(operation)),
        links=[_link(link) for link in successful(operation).get("links", {}).values()],
    )


def _anchor(operation_id: str) -> str:
    return operation_id.replace("_", "-")


def _link(link: Document) -> Document:
    """A link as the script follows it: the call's anchor, the text of the button, and the values."""
    in_body = "requestBody" in link
    values = link["requestBody"] if in_body else link.get("parameters", {})
    return {"to": _anchor(link["operationId"]), "text": link["description"], "values": values, "body": in_body}


def _expected(answer: Document) -> str:
    content = next(iter(answer.get("content", {})), "")
    if content.startswith("image/"):
        return "file"
    if content == "text/event-stream":
        return "events"
    return "json" if content == JSON else "text"


# --- answers and types ---------------------------------------------------------------------------------------


def _answer(status: str, answer: Document) -> Answer:
    content = answer.get("content", {})
    is_plain = list(content) == [MEDIA_TYPE]
    return Answer(
        status,
        answer["description"],
        "" if is_plain else ", ".join(content),
        () if is_plain else tuple(names_in(content)),
    )


def _with_parts(document: Document, names: list[str]) -> list[str]:
    """The names of schemas, each once, and after them the names of those that they are made of."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found.append(name)
            waiting = [*names_in(document["components"]["schemas"][name]), *waiting]
    return found


def _type(document: Document, name: str) -> Type:
    return Type(name, _paragraphs(document["components"]["schemas"][name]), schema_fields(document, name))


def _paragraphs(described: Document) -> list[str]:
    return described["description"].split("\n\n") if "description" in described else []
