"""The id of each request, and its log line."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from benchmarks.system import running_web
from common.log_context import header_of
from common.redis_client import connect
from common.settings import Settings
from tests.unit.web.building import index_files, picture_bytes

MakeClient = Callable[..., FlaskClient]


@pytest.mark.parametrize("path", ["/healthz", "/", "/nothing", "/api/v1/searches/1", "/static/app.css"])
def test_every_answer_has_the_id_that_the_client_gave(client: FlaskClient, path: str) -> None:
    with client.get(path, headers={"X-Request-ID": "from-the_proxy-1"}) as response:
        assert response.headers["X-Request-ID"] == "from-the_proxy-1"


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 65, "<script>", "ä", "a;b"])
def test_else_it_has_a_new_one(client: FlaskClient, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given}
    found = {client.get("/healthz", headers=headers).headers["X-Request-ID"] for _ in range(3)}
    assert len(found) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", request_id) for request_id in found)


def test_an_unexpected_failure_has_an_id_and_a_line(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("inside")

    client.application.config["TESTING"] = False
    monkeypatch.setattr("web.services.Services.status", fail)
    with caplog.at_level(logging.INFO):
        response = client.get("/api/v1/status", headers={"X-Request-ID": "r"})
    assert (response.status_code, response.headers["X-Request-ID"]) == (500, "r")
    messages = [record.getMessage() for record in caplog.records]
    assert any("Exception on /api/v1/status" in message for message in messages)
    assert any(message.startswith("GET /api/v1/status 500 in ") for message in messages)


def test_the_line_has_no_query_and_the_quiet_ones_have_none(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "web.request_log"):
        client.get("/api/v1/images?limit=secret", headers={"Authorization": "Bearer secret"})
        for path in ("/healthz", "/metrics", "/static/app.css"):
            client.get(path).close()
        client.get("/readyz")  # nothing is ready
    first, second = caplog.records
    assert "secret" not in str(vars(first))
    assert (first.method, first.path, first.status, first.client) == ("GET", "/api/v1/images", 422, "127.0.0.1")
    assert first.ms > 0
    assert (second.path, second.status) == ("/readyz", 503)


def test_a_task_carries_the_id_of_the_request(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    upload = {"image": (io.BytesIO(picture_bytes()), "a.jpg")}
    client.post("/api/v1/searches", data=upload, headers={"X-Request-ID": "search-me"})
    client.post("/api/v1/index-jobs", json={"folder": "photos"}, headers={"X-Request-ID": "index-me"})
    with connect(settings) as connection:
        for queue, request_id in (("query", "search-me"), ("bulk", "index-me")):
            (message,) = connection.lrange(queue, 0, -1)
            assert header_of(json.loads(message)["headers"])["request_id"] == request_id


def test_the_server_logs_json_without_secrets(settings: Settings, tmp_path: Path) -> None:
    token = "the-token-of-this-server"
    log = tmp_path / "web.log"
    changed = settings.model_copy(update={"log_format": "json", "api_token": SecretStr(token)})
    with running_web(changed, log=log) as address:
        request = urllib.request.Request(
            f"{address}/api/v1/index-jobs?token={token}",
            b'{"folder": "photos"}',
            {"Content-Type": "application/json", "Authorization": f"Bearer {token}", "X-Request-ID": "r-1"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            job = json.load(response)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}/{token}%0aforged", timeout=20)
        refused.value.close()
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), 20) as connection:  # what gunicorn itself refuses
            connection.sendall(f"GET / HTTP/1.1\r\nAuthorization {token}\r\n\r\n".encode())
            connection.recv(1000)
    text = log.read_text()
    assert token not in text
    lines = [json.loads(line) for line in text.splitlines()]
    (submitted,) = [line for line in lines if line.get("request_id") == "r-1"]
    assert (submitted["message"].partition(" in ")[0], submitted["job_id"]) == (
        "POST /api/v1/index-jobs 202",
        job["id"],
    )
    common = {"time", "level", "logger", "pid", "message"}
    assert submitted.keys() == {*common, "request_id", "job_id", "method", "path", "status", "ms", "client"}
    assert [line["path"] for line in lines if line.get("status") == 404] == ["/***\nforged"]
    assert all(common <= line.keys() for line in lines)
