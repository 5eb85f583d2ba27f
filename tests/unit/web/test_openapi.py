"""The OpenAPI document and the page made from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

CONTRACT = {
    ("POST", "/api/v1/searches"),
    ("GET", "/api/v1/searches/{search_id}"),
    ("POST", "/api/v1/index-jobs"),
    ("GET", "/api/v1/index-jobs"),
    ("GET", "/api/v1/index-jobs/{job_id}"),
    ("GET", "/api/v1/index-jobs/{job_id}/errors"),
    ("POST", "/api/v1/index-jobs/{job_id}/pause"),
    ("POST", "/api/v1/index-jobs/{job_id}/resume"),
    ("POST", "/api/v1/index-jobs/{job_id}/cancel"),
    ("POST", "/api/v1/index-jobs/{job_id}/retry"),
    ("POST", "/api/v1/duplicate-jobs"),
    ("GET", "/api/v1/duplicate-jobs/{job_id}"),
    ("GET", "/api/v1/images"),
    ("GET", "/api/v1/images/{image_id}"),
    ("GET", "/api/v1/images/{image_id}/thumbnail"),
    ("GET", "/api/v1/images/{image_id}/original"),
    ("GET", "/api/v1/status"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    """The document."""
    response = client.get("/api/v1/openapi.json")
    assert response.status_code == 200
    body: dict[str, Any] = response.get_json()
    return body


def references(value: Any) -> Iterator[str]:
    """All references below a value."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def test_it_lists_the_whole_contract_and_nothing_else(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert {(method, path) for method, path, _ in operations(document)} == CONTRACT


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert found
    for reference in found:
        name = reference.removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"]


def test_computed_fields_are_described(document: dict[str, Any]) -> None:
    assert {"thumbnail_url", "image_url", "score"} <= set(document["components"]["schemas"]["SearchHit"]["properties"])


def test_a_search_takes_an_upload_or_json(document: dict[str, Any]) -> None:
    content = document["paths"]["/api/v1/searches"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    assert document["components"]["schemas"]["UploadRequest"]["properties"]["image"]["format"] == "binary"


def test_several_pictures_and_pages_are_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    form, body = schemas["UploadRequest"]["properties"], schemas["SearchRequest"]["properties"]
    assert {"image", "images", "weights", "cursor"} <= set(form)
    assert {"images", "cursor"} <= set(body)
    assert not {"image", "weights"} & set(body)
    assert {"type": "array", "items": {"type": "string"}} in form["image"]["anyOf"]
    weight = schemas["WeightedImage"]["properties"]["weight"]
    assert (weight["minimum"], weight["maximum"], weight["default"]) == (-10, 10, 1)
    assert (body["images"]["type"], body["images"]["maxItems"]) == ("array", 16)
    assert "next_cursor" in schemas["SearchResult"]["properties"]


def test_errors_are_described_as_problems(document: dict[str, Any]) -> None:
    found = 0
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400" and path != "/readyz":
                found += 1
                assert list(response["content"]) == ["application/problem+json"]
    assert found > 20


def test_every_documented_path_answers_as_documented(client: FlaskClient, document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        response = client.open(re.sub(r"\{\w+\}", "0" * 24, path), method=method, json={} if method == "POST" else None)
        assert str(response.status_code) in operation["responses"], (method, path, response.status_code)


def test_the_page_shows_every_call_without_outside_resources(client: FlaskClient) -> None:
    page = client.get("/api/docs").get_data(as_text=True)
    for method, path in CONTRACT:
        assert f'data-method="{method}">{method}</span> <code>{path}</code>' in page
    assert "curl -F image=@picture.jpg" in page
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
