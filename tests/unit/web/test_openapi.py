"""The OpenAPI document and the page made from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

CONTRACT = {
    ("POST", "/api/v1/searches"),
    ("GET", "/api/v1/searches/{search_id}"),
    ("DELETE", "/api/v1/searches/{search_id}"),
    ("GET", "/api/v1/searches/{search_id}/pictures/{number}"),
    ("POST", "/api/v1/index-jobs"),
    ("GET", "/api/v1/index-jobs"),
    ("GET", "/api/v1/index-jobs/{job_id}"),
    ("GET", "/api/v1/index-jobs/{job_id}/errors"),
    ("POST", "/api/v1/index-jobs/{job_id}/pause"),
    ("POST", "/api/v1/index-jobs/{job_id}/resume"),
    ("POST", "/api/v1/index-jobs/{job_id}/cancel"),
    ("POST", "/api/v1/index-jobs/{job_id}/retry"),
    ("POST", "/api/v1/duplicate-jobs"),
    ("GET", "/api/v1/duplicate-jobs"),
    ("GET", "/api/v1/duplicate-jobs/{job_id}"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/folders"),
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
    image = document["components"]["schemas"]["UploadRequest"]["properties"]["image"]
    assert (image["type"], image["items"]["format"], image["maxItems"]) == ("array", "binary", 16)


def test_several_pictures_and_pages_are_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    form, body = schemas["UploadRequest"]["properties"], schemas["SearchRequest"]["properties"]
    assert {"image", "images", "weights", "crop", "folder", "k", "min_score"} == set(form)
    assert {"images", "image_id", "url", "cursor"} <= set(body)
    assert [branch["required"] for branch in schemas["SearchRequest"]["oneOf"]] == [
        ["image_id"],
        ["images"],
        ["url"],
        ["cursor"],
    ]
    assert not {"image", "weights"} & set(body)
    # In a form all fields are text.
    assert {form[name]["type"] for name in ("images", "weights", "crop")} == {"string"}
    assert form["images"]["contentSchema"]["maxItems"] == 16
    weight = schemas["WeightedImage"]["properties"]["weight"]
    assert (weight["minimum"], weight["maximum"], weight["default"]) == (-10, 10, 1)
    assert (body["images"]["type"], body["images"]["maxItems"]) == ("array", 16)
    assert "next_cursor" in schemas["SearchResult"]["properties"]


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert {"create_search", "get_search", "list_images"} <= set(names)


def test_every_link_leads_to_a_call_that_takes_what_it_gives(document: dict[str, Any]) -> None:
    named = {operation["operationId"]: operation for _, _, operation in operations(document)}
    found = 0
    for operation in named.values():
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                found += 1
                target = named[link["operationId"]]
                assert set(link.get("parameters", {})) <= {item["name"] for item in target.get("parameters", [])}
                if "requestBody" in link:
                    schema = target["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                    assert set(link["requestBody"]) <= set(document["components"]["schemas"][schema]["properties"])
    assert found > 15


def test_answers_name_the_headers_that_clients_need(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        answers = operation["responses"]
        assert ("Location" in answers.get("202", {}).get("headers", {})) == ("202" in answers)
        if "429" in answers:
            assert "Retry-After" in answers["429"]["headers"]
    for name in ("thumbnail", "original"):
        operation = document["paths"][f"/api/v1/images/{{image_id}}/{name}"]["get"]
        assert "ETag" in operation["responses"]["200"]["headers"]
        assert "304" in operation["responses"]
        assert "If-None-Match" in [item["name"] for item in operation["parameters"]]


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


def test_every_link_within_the_page_leads_somewhere(client: FlaskClient) -> None:
    page = client.get("/api/docs").get_data(as_text=True)
    targets = set(re.findall(r' id="([^"]+)"', page))
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert {"create-search", "type-SearchHit", "type-WeightedImage", "type-Problem", "guide"} <= links
    assert links <= targets


def test_the_page_says_whether_there_is_a_token(make_client: Callable[..., FlaskClient]) -> None:
    without, with_token = (
        make_client(api_token=token).get("/api/docs").get_data(as_text=True) for token in (None, SecretStr("s3cret"))
    )
    assert 'id="token"' not in without
    assert "Authorization: Bearer TOKEN&#39; \\\n  -H" not in without
    assert 'id="token"' in with_token
    assert "-H &#39;Authorization: Bearer TOKEN&#39; \\\n  -H" in with_token
    assert "s3cret" not in with_token
