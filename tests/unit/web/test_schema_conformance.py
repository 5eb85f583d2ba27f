"""Every answer is as the OpenAPI document says, whatever is sent; and what the document forbids is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest
import redis
from pydantic import SecretStr

from benchmarks.system import running_web
from common.duplicates import DuplicateBoard, DuplicateGroup, DuplicateImage
from common.jobs import Client
from common.messages import SearchQuery
from common.progress import JobBoard
from common.settings import Settings
from common.store import CatalogEntry
from tests.browser.conftest import PlayedWorker
from tests.unit.helpers import REPOSITORY
from tests.unit.web.building import index_files, picture_bytes

HERE = Path(__file__).parent
TOKEN = "s3cret"


@pytest.fixture
def known(settings: Settings, library: Path) -> Iterator[dict[str, str]]:
    """Something of everything, and a worker that answers searches. Gives the names of `conformance.toml`."""
    entries = index_files(settings, library, [f"{folder}/{n}.jpg" for folder in ("holiday", "shop") for n in range(6)])
    client = Client(settings)
    worker = PlayedWorker(settings)
    try:
        search = client.submit_search(SearchQuery(k=3), [picture_bytes()])
        client.search(search.id, 20)
        yield {
            "API_TOKEN": TOKEN,
            "SEARCH": search.id,
            "IMAGE": entries[0].image_id,
            "FINISHED_JOB": job(settings, done=True),
            "JOB_TO_PAUSE": job(settings),
            "JOB_TO_RESUME": client.pause_job(job(settings)).id,
            "JOB_TO_CANCEL": job(settings),
            "DUPLICATE_JOB": duplicate_job(settings, client, entries),
        }
    finally:
        worker.stop()


def job(settings: Settings, *, done: bool = False) -> str:
    """An index job with a failed file; it runs unless it is done."""
    board = JobBoard(redis.Redis.from_url(settings.redis_url))
    job_id = board.create("photos").id
    plan = board.start_plan(job_id)
    board.add(job_id, {"found": 12, "total": 12})
    board.finish_scan(job_id, plan)
    board.finish_batch(
        job_id, plan, "b1", done=11 if done else 3, failed={"photos/x.jpg": "It is damaged."}, duplicates=1
    )
    return job_id


def duplicate_job(settings: Settings, client: Client, entries: list[CatalogEntry]) -> str:
    """A finished search for near-duplicates, with groups."""
    board = DuplicateBoard(redis.Redis.from_url(settings.redis_url), settings.data_dir)
    taken = board.begin(client.submit_duplicate_job(0.9, None).id)
    assert taken is not None
    images = [
        DuplicateImage(image_id=entry.image_id, path=entry.path, width=48, height=32, size=entry.record.size)
        for entry in entries[:2]
    ]
    board.finish(taken, [DuplicateGroup(images=images, lowest_score=0.98, best_score=0.99)] * 3)
    return taken.id


def test_every_answer_is_in_the_document(settings: Settings, known: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "conformance.toml"
    config.write_text(
        Template((HERE / "conformance.toml").read_text(encoding="utf-8")).substitute(known), encoding="utf-8"
    )
    with running_web(settings.model_copy(update={"api_token": SecretStr(TOKEN)})) as address:
        command = ["--config-file", str(config), "run", f"{address}/api/v1/openapi.json"]
        hooks = {"SCHEMATHESIS_HOOKS": "tests.unit.web.conformance_hooks", "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *command],
            env={**os.environ, **known, **hooks},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
