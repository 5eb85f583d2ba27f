"""What somebody who can write to Redis puts into the queues: it is dropped, with a line in the log for each message."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.system import System, wait_until
from common.celery_app import COMPACT, FIND_DUPLICATES, INDEX_BATCH, MAINTENANCE, SCAN
from common.settings import Settings

EMBEDDED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
PICKLED = b"cos\nsystem\n(S'touch PWNED'\ntR."


def message(task: str = SCAN, *args: Any, body: bytes | None = None, **changes: Any) -> dict[str, Any]:
    """A message as Celery writes it, with some changes."""
    content = json.dumps([args, changes.pop("kwargs", {}), {**EMBEDDED, **changes.pop("embedded", {})}]).encode()
    headers = {"task": task, "id": "1", "timelimit": [None, None], "retries": 0, "eta": None, "expires": None}
    return {
        "body": base64.b64encode(content if body is None else body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {**headers, **changes.pop("headers", {})},
        "properties": {
            "delivery_tag": "1",
            "delivery_info": {"exchange": "", "routing_key": MAINTENANCE},
            "priority": 0,
            "body_encoding": "base64",
        },
        **changes,
    }


def forgeries(victim: Path) -> Iterator[Any]:
    """Messages that are none of ours."""
    yield from (b"garbage", b"\xff\xfe", b"[" * 100_000, 5, [], {}, {"body": "", "headers": {}, "properties": {}})
    yield message("os.system", "touch PWNED")
    yield message("celery.starmap", {"task": SCAN, "args": [], "kwargs": {}, "options": {}}, [[str(victim)]])
    yield message(SCAN, body=PICKLED, **{"content-type": "application/x-python-serialize"})
    yield message(
        SCAN, body=b"!!python/object/apply:os.system ['touch PWNED']", **{"content-type": "application/x-yaml"}
    )
    for ids in ((), ("a", "b", "c"), (5,), (None,), ({"a": 1},), ("x" * 1_000_000,), ("a\nb",), ("",)):
        yield message(SCAN, *ids)
    for path in (str(victim), f"../../../../../../../../../{victim}", "..", "../jobs", "a/../../b", "a\0b"):
        yield message(SCAN, path)
        yield message(INDEX_BATCH, "a", path)
        yield message(INDEX_BATCH, path, "001-000001")
        yield message(FIND_DUPLICATES, path)
    yield message(SCAN, kwargs={"job_id": str(victim)})
    yield message(COMPACT, embedded={"callbacks": [{"task": SCAN, "args": [str(victim)]}]})
    yield from (message(SCAN, "a", body=body) for body in (b"{", b'"x"', b"[]", b"null", b"\xff"))
    yield message(SCAN, "a", headers={"eta": "soon"})
    yield message(SCAN, "a", headers={"timelimit": "now"})
    yield message(SCAN, "a", headers={"compression": "application/x-gzip"})
    yield {**message(SCAN, "a"), "headers": None}
    yield {**message(SCAN, "a"), "body": "no base64!"}


@pytest.fixture
def system(settings: Settings, tmp_path: Path) -> Iterator[System]:
    """A system whose workers need no model."""
    system = System(settings, tmp_path)
    yield system
    system.kill()


def test_forged_messages_are_dropped_and_the_worker_lives(system: System, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").touch()
    worker = system.start_worker("maintenance")
    redis = system.client.redis
    sent = [item if isinstance(item, bytes) else json.dumps(item) for item in forgeries(victim)]
    for item in sent:
        redis.lpush(MAINTENANCE, item)

    def dropped() -> list[str]:
        return [line for line in worker.log.read_text().splitlines() if "dropped a message" in line]

    wait_until(lambda: len(dropped()) == len(sent), "all are dropped", 60)
    # It goes on with ours: there is no model yet, which is what it says.
    job = system.client.submit_duplicate_job(0.9)
    final = {"done", "failed"}
    wait_until(lambda: system.client.duplicates(job.id, None, 1).state in final, "our own message is heeded", 60)
    log = worker.log.read_text()
    assert worker.process.poll() is None
    assert "Traceback" not in log
    assert len(log) < 300 * (len(sent) + 30)
    assert redis.hlen("unacked") == 0
    assert (victim / "kept").exists()
    assert not list(tmp_path.rglob("PWNED"))
    assert not Path("PWNED").exists()
