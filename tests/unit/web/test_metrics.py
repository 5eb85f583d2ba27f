"""What Prometheus is told: of Redis, the store, the workers and the web tier itself."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from benchmarks.system import running_web, wait_until
from common import index_metrics, stage_metrics
from common.log_context import HEADER
from common.recall import RecallBoard
from common.redis_client import connect
from common.settings import Settings
from tests.unit.web.building import SPEC, answer_search, index_files, picture_bytes, report_worker
from tests.unit.web.scrape import Scrape
from web import processes

MakeClient = Callable[..., FlaskClient]


def test_the_store_the_model_and_the_workers(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg", "b.jpg"])
    facts = {"model": "tiny/fc1", "threads": 3, "images_per_second": 12.5}
    report_worker(settings, state="busy", **facts)
    report_worker(settings, "bulk", state="loading")
    scrape = Scrape.of(client)
    assert scrape.value("imagesearch_redis_up") == 1
    assert scrape.value("imagesearch_store_up") == 1
    assert scrape.value("imagesearch_images") == 2
    assert scrape.value("imagesearch_segments") == 1
    assert scrape.value("imagesearch_segments_damaged") == 0
    segments = SPEC.store_path(settings.data_dir) / "segments"
    assert scrape.value("imagesearch_store_bytes") == sum(path.stat().st_size for path in segments.iterdir())
    disk = shutil.disk_usage(settings.data_dir)
    assert scrape.value("imagesearch_data_disk_size_bytes") == disk.total
    assert 0 < (scrape.value("imagesearch_data_disk_free_bytes") or 0) <= disk.total
    model = {"model": "tiny/fc1", "precision": "bfloat16", "trained": "true"}
    assert scrape.value("imagesearch_model_info", **model) == 1
    worker = {"worker": "query@desk:4711", "host": "desk", "queues": "query"}
    assert scrape.value("imagesearch_worker_info", **worker, model="tiny/fc1", precision="bfloat16") == 1
    assert scrape.values("imagesearch_worker_busy", "worker") == {"bulk@desk:4711": 0, "query@desk:4711": 1}
    assert scrape.values("imagesearch_worker_threads", "worker") == {"query@desk:4711": 3}
    assert scrape.values("imagesearch_worker_images_per_second", "worker") == {"query@desk:4711": 12.5}
    assert scrape.values("imagesearch_workers", "queue") == {"query": 1, "bulk": 1, "maintenance": 0}
    assert scrape.values("imagesearch_workers_ready", "queue") == {"query": 1, "bulk": 0, "maintenance": 0}


def test_names_follow_the_conventions_and_all_are_explained(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    index_files(settings, library, ["a.jpg"])
    report_worker(settings)
    for family in Scrape.of(client).families.values():
        assert re.fullmatch(r"(imagesearch|process)_[a-z_]+", family.name)
        assert family.documentation.endswith("."), family.name
        assert family.type in {"gauge", "counter", "histogram"}, family.name
        # The parser takes the suffix away from counters, and from nothing else.
        assert not family.name.endswith(("_total", "_count", "_ms")), family.name


def test_without_redis_the_rest_is_told(make_client: MakeClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    scrape = Scrape.of(make_client(redis_url="redis://localhost:1/0"))
    assert scrape.value("imagesearch_redis_up") == 0
    assert scrape.value("imagesearch_images") == 1
    assert "imagesearch_queue_length" not in scrape.names


def test_a_store_that_cannot_be_read_is_not_an_empty_one(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    index_files(settings, library, ["a.jpg"])
    (SPEC.store_path(settings.data_dir) / "store.json").write_text("{")
    scrape = Scrape.of(client)
    assert scrape.value("imagesearch_store_up") == 0
    assert scrape.value("imagesearch_redis_up") == 1
    assert "imagesearch_images" not in scrape.names


def test_where_the_time_of_searches_goes(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    for error in (None, "The image is damaged."):
        accepted = client.post("/api/v1/searches", data={"image": (io.BytesIO(picture_bytes()), "a.jpg")}).get_json()
        answer_search(settings, accepted["id"], error=error)  # with an embed stage of 30 ms
        for _ in range(2):
            assert client.get(accepted["url"]).status_code == 200
    with connect(settings) as connection:
        stage_metrics.count_failure(connection, "damaged-image")
        RecallBoard(connection).add(19, 20)
    scrape = Scrape.of(client)
    ended = {"done": 1, "failed": 1, "abandoned": 0, "refused": 0}
    assert scrape.values("imagesearch_queries_total", "state") == ended
    assert scrape.values("imagesearch_search_failures_total", "reason") == {"damaged-image": 1}
    stage = "imagesearch_query_stage_seconds"
    assert scrape.value(f"{stage}_bucket", stage="embed", le="0.025") == 0
    assert scrape.value(f"{stage}_bucket", stage="embed", le="0.05") == 2
    assert scrape.value(f"{stage}_bucket", stage="embed", le="+Inf") == 2
    assert scrape.value(f"{stage}_sum", stage="embed") == pytest.approx(0.06)
    counts = scrape.values(f"{stage}_count", "stage")
    assert (counts["embed"], counts["poll"], counts["total"], counts["candidates"]) == (2, 2, 2, 0)
    assert scrape.value("imagesearch_recall_hits_total") == 19
    assert scrape.value("imagesearch_recall_possible_total") == 20


def test_what_became_of_files_and_jobs(client: FlaskClient, settings: Settings) -> None:
    with connect(settings) as connection:
        index_metrics.count(
            connection, embedded=5, duplicates=2, failed={"damaged-image": 3}, seconds={"embed": 0.7, "total": 1.5}
        )
        index_metrics.count(connection, failed={"scan-problem": 1})
    client.post("/api/v1/index-jobs", json={"folder": "photos"})
    scrape = Scrape.of(client)
    outcomes = {"embedded": 5, "duplicate": 2, "failed": 4}
    assert scrape.values("imagesearch_indexed_images_total", "outcome") == outcomes
    assert scrape.values("imagesearch_index_failures_total", "reason") == {"damaged-image": 3, "scan-problem": 1}
    stage = "imagesearch_batch_stage_seconds"
    assert scrape.value(f"{stage}_bucket", stage="embed", le="0.5") == 0
    assert scrape.value(f"{stage}_bucket", stage="embed", le="1") == 1
    assert scrape.value(f"{stage}_sum", stage="total") == 1.5
    assert scrape.values(f"{stage}_count", "stage")["read"] == 0
    jobs = scrape.values("imagesearch_index_jobs", "state")
    assert (jobs["scanning"], sum(jobs.values())) == (1, 1)
    assert scrape.value("imagesearch_index_files_remaining") == 0


def test_how_long_the_next_task_has_waited(client: FlaskClient, settings: Settings) -> None:
    age = "imagesearch_queue_age_seconds"
    assert Scrape.of(client).values(age, "queue") == {"query": 0, "bulk": 0, "maintenance": 0}
    client.post("/api/v1/index-jobs", json={"folder": "photos"})
    with connect(settings) as connection:
        wait_until(lambda: (Scrape.of(client).value(age, queue="bulk") or 0) > 0, "the task has waited", 10)
        older = {"headers": {HEADER: {"sent_at": time.time() - 3600}}}
        connection.rpush("bulk", json.dumps(older))  # tasks are put in at the other end
        scrape = Scrape.of(client)
        assert scrape.value("imagesearch_queue_length", queue="bulk") == 2
        assert 3600 <= (scrape.value(age, queue="bulk") or 0) < 7200
        for foreign in ("{}", "[]", "no json", '{"headers": {"imagesearch": {"sent_at": "soon"}}}', '{"headers": 1}'):
            connection.rpush("bulk", foreign)
            assert Scrape.of(client).value(age, queue="bulk") == 0


def test_requests_are_counted_by_route_and_not_by_address(client: FlaskClient) -> None:
    for path in ("/api/v1/searches/1", "/api/v1/searches/2?wait=0", "/nothing", "/nothing/else", "/healthz"):
        client.get(path)
    for method in ("BREW", "POUR"):
        client.open("/healthz", method=method)
    client.post("/api/v1/index-jobs", data="{", content_type="application/json")
    requests = {
        (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
        for sample in Scrape.of(client).families["imagesearch_http_requests"].samples
    }
    assert requests == {
        ("/api/v1/searches/<search_id>", "GET", "404"): 2,
        ("none", "GET", "404"): 2,
        ("/healthz", "GET", "200"): 1,
        ("none", "other", "405"): 2,
        ("/api/v1/index-jobs", "POST", "400"): 1,
    }
    scrape = Scrape.of(client)
    seconds = "imagesearch_http_request_seconds"
    assert scrape.value(f"{seconds}_count", route="none", method="GET") == 2
    assert scrape.value(f"{seconds}_count", route="/metrics", method="GET") == 1
    assert (scrape.value(f"{seconds}_sum", route="/metrics", method="GET") or 0) > 0
    assert (scrape.value("process_resident_memory_bytes") or 0) > 10**7


def test_a_label_is_escaped(client: FlaskClient, settings: Settings, library: Path) -> None:
    name = 'my "net" \\ 2\n'
    index_files(settings, library, ["a.jpg"], spec=SPEC.model_copy(update={"architecture": name}))
    models = Scrape.of(client).values("imagesearch_model_info", "model")
    assert models == {f"{name}/fc1": 1}


def test_two_processes_count_together(settings: Settings) -> None:
    with running_web(settings, processes=2) as address:

        def get(path: str) -> str:
            try:
                with urllib.request.urlopen(f"{address}{path}", timeout=20) as response:
                    return str(response.read().decode())
            except urllib.error.HTTPError as error:
                error.close()
                return ""

        for _ in range(30):
            get("/api/v1/searches/1")
        searches = {"route": "/api/v1/searches/<search_id>", "method": "GET", "status": "404"}
        scrapes = [Scrape(get("/metrics")) for _ in range(10)]
    # Whichever process answered.
    assert [scrape.value("imagesearch_http_requests_total", **searches) for scrape in scrapes] == [30] * 10


def test_a_server_that_was_killed_leaves_nothing_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "of another program")
    with processes.counting_together(1):
        assert processes.shared_folder() is None
    left = tmp_path / "imagesearch-metrics-left"
    left.mkdir()
    (left / "counter_1.db").touch()
    with processes.counting_together(2):
        mine = processes.shared_folder()
        assert list(tmp_path.iterdir()) == [mine]
        with processes.counting_together(2):
            assert len(list(tmp_path.iterdir())) == 2
            assert mine is not None
            assert mine.is_dir()
    assert list(tmp_path.iterdir()) == []
