"""Status, health, metrics, and what holds for every response."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common import storage
from common.recall import RecallBoard
from common.redis_client import connect
from common.settings import Settings
from common.store import open_store
from tests.redis_troubles import full
from tests.unit.helpers import segment_file
from tests.unit.web.building import index_files, report_worker

Check = Callable[[TestResponse, int], str]
MakeClient = Callable[..., FlaskClient]


def test_status_of_a_new_installation(client: FlaskClient) -> None:
    status = client.get("/api/v1/status").get_json()
    assert (status["images"], status["segments"], status["model"], status["trained"]) == (0, 0, None, None)
    assert status["workers"] == []
    assert status["queues"] == {"query": 0, "bulk": 0, "maintenance": 0}
    assert status["folders"] == ["photos"]


def test_status_of_a_collection(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg", "b.jpg"])
    assert client.get("/api/v1/status").get_json()["precision"] == "float32"
    report_worker(settings)
    client.post("/api/v1/index-jobs", json={"folder": "photos"})
    status = client.get("/api/v1/status").get_json()
    assert (status["images"], status["segments"]) == (2, 1)
    assert (status["model"], status["trained"], status["precision"]) == ("tiny/fc1", True, "bfloat16")
    assert [worker["queues"] for worker in status["workers"]] == [["query"]]
    assert status["queues"]["bulk"] == 1


def test_status_of_a_model_without_images(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, [])
    status = client.get("/api/v1/status").get_json()
    assert (status["images"], status["model"], status["trained"]) == (0, "tiny/fc1", True)


def test_alive_without_redis(make_client: MakeClient) -> None:
    response = make_client(redis_url="redis://localhost:1/0").get("/healthz")
    assert (response.status_code, response.get_json()) == (200, {"status": "ok"})


def test_readiness_names_what_is_missing(
    make_client: MakeClient, client: FlaskClient, settings: Settings, library: Path
) -> None:
    response = make_client(redis_url="redis://localhost:1/0").get("/readyz")
    assert response.status_code == 503
    assert response.get_json()["checks"] == {"redis": False, "store": False, "query_worker": False}

    index_files(settings, library, ["a.jpg"])
    report_worker(settings, state="loading")
    report_worker(settings, queue="bulk")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.get_json()["ready"] is False
    assert response.get_json()["checks"] == {"redis": True, "store": True, "query_worker": False}
    assert "imagesearch worker --queues query" in response.get_json()["problems"]["query_worker"]

    report_worker(settings)
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.get_json()["checks"] == {"redis": True, "store": True, "query_worker": True}


def test_what_hinders_no_search_is_a_warning(
    client: FlaskClient, settings: Settings, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_files(settings, library, ["a.jpg"])
    index_files(settings, library, ["b.jpg"], segment="second")
    report_worker(settings)
    client.get("/readyz")
    rotten = segment_file(open_store(settings), "second")
    rotten.unlink()  # a change within a file shows only when that is opened
    rotten.write_bytes(b"rotten")
    monkeypatch.setattr(storage, "MIN_FREE_BYTES", 1 << 60)
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.get_json()["problems"] == {}
    assert set(response.get_json()["warnings"]) == {"segments-damaged", "disk-full"}
    status = client.get("/api/v1/status").get_json()
    assert {problem["kind"] for problem in status["problems"]} == {"segments-damaged", "disk-full"}
    page = client.get("/").get_data(as_text=True)
    assert "Segment second.h5 is damaged" in page
    metrics = client.get("/metrics").get_data(as_text=True)
    assert 'imagesearch_problem{kind="disk-full"} 1.0' in metrics
    monkeypatch.undo()
    segment_file(open_store(settings), "second").unlink()
    assert client.get("/readyz").get_json()["warnings"] == {}
    assert "imagesearch_problem{" not in client.get("/metrics").get_data(as_text=True)


def test_a_redis_that_is_full_is_not_ready(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    report_worker(settings)
    with full(connect(settings)):
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.get_json()["checks"] == {"redis": False, "store": True, "query_worker": True}
        assert "memory" in response.get_json()["problems"]["redis"]
        assert response.get_json()["warnings"] == {}
        assert "no memory left" in client.get("/").get_data(as_text=True)
    assert client.get("/readyz").status_code == 200


def test_a_worker_that_hangs_is_not_ready(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    report_worker(settings, state="stuck", detail="It has not got on for over 60 s: restart it, if that lasts.")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "restart it" in response.get_json()["problems"]["query_worker"]
    assert "hangs" in client.get("/folders").get_data(as_text=True)


def test_a_data_folder_that_cannot_be_read_is_said_everywhere(
    make_client: MakeClient, check_problem: Check, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    client = make_client(data_dir=tmp_path / "file" / "data")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "mounted" in response.get_json()["problems"]["store"]
    assert "mounted" in check_problem(client.get("/api/v1/status"), 503)
    page = client.get("/")
    assert (page.status_code, "mounted" in page.get_data(as_text=True)) == (200, True)


def test_errors_are_problems_everywhere(client: FlaskClient, check_problem: Check) -> None:
    assert "/api/v1/nothing" in check_problem(client.get("/api/v1/nothing", headers={"Accept": "text/html"}), 404)
    response = client.delete("/api/v1/status")
    check_problem(response, 405)
    assert "GET" in response.headers["Allow"]
    check_problem(client.get("/nothing"), 404)


def test_a_browser_gets_a_page_for_what_is_not_there(client: FlaskClient) -> None:
    response = client.get("/nothing<b>", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (response.status_code, response.mimetype) == (404, "text/html")
    page = response.get_data(as_text=True)
    assert "Not Found" in page
    assert "/nothing&lt;b&gt;" in page
    assert "<b>" not in page


def test_an_unexpected_failure_is_a_problem_without_its_inside(
    client: FlaskClient, check_problem: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("secret detail")

    client.application.config["TESTING"] = False
    monkeypatch.setattr("web.services.Services.status", fail)
    assert "secret" not in check_problem(client.get("/api/v1/status"), 500)


@pytest.mark.parametrize("path", ["/", "/folders", "/api/docs", "/api/v1/status", "/static/app.css", "/nothing"])
def test_every_response_is_locked_down(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    response.close()


def test_answers_of_the_api_are_not_kept(client: FlaskClient) -> None:
    assert client.get("/api/v1/status").headers["Cache-Control"] == "no-store"


def test_web_imports_no_model_code(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from common.settings import Settings; from web import create_app\n"
        "app = create_app(Settings(data_dir=Path(sys.argv[1])))\n"
        "assert app.test_client().get('/healthz').status_code == 200\n"
        "import web.server\n"
        "heavy = {'tensorflow', 'keras', 'faiss', 'workers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


def test_the_observed_recall_is_in_the_status(client: FlaskClient, settings: Settings) -> None:
    assert client.get("/api/v1/status").get_json()["recall_at_10"] is None
    with connect(settings) as connection:
        RecallBoard(connection).add(19, 20)
    assert client.get("/api/v1/status").get_json()["recall_at_10"] == 0.95
