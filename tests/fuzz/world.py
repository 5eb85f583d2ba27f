"""A server to attack: something of everything, a file outside the library that nobody may see, and links to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
from tests.fuzz.attacks import Targets, attacks, send
from tests.unit.web.building import index_files, picture_bytes

TOKEN = "s3cret"
CANARY = b"this file is outside of the library: c4n4ry"
MAX_UPLOAD_BYTES = 1 << 20
# What no answer may hold: the file outside, and what every Linux has.
SECRETS = (CANARY, b"root:x:0:0", b"PATH=/")


@contextmanager
def something_of_everything(settings: Settings, library: Path) -> Iterator[dict[str, str]]:
    """Images, searches and jobs, and a worker that answers searches. Gives the names of `conformance.toml`."""
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
            "FINISHED_JOB": _job(settings, done=True),
            "JOB_TO_PAUSE": _job(settings),
            "JOB_TO_RESUME": client.pause_job(_job(settings)).id,
            "JOB_TO_CANCEL": _job(settings),
            "DUPLICATE_JOB": _duplicate_job(settings, client, entries),
        }
    finally:
        worker.stop()


def _job(settings: Settings, *, done: bool = False) -> str:
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


def _duplicate_job(settings: Settings, client: Client, entries: list[CatalogEntry]) -> str:
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


@dataclass(frozen=True)
class World:
    """A server that is being attacked.

    Attributes:
        address: Its address.
        known: What is there, by the names of `conformance.toml`.
        targets: What the attacks are aimed at.
    """

    address: str
    known: dict[str, str]
    targets: Targets

    def attack(self) -> tuple[list[str], int, float]:
        """Makes all attacks. Gives what went wrong, how many there were, and the longest time in seconds."""
        made = attacks(self.targets)
        problems, longest = [], 0.0
        for attack in made:
            answer = send(self.targets.root, attack.data)
            longest = max(longest, answer.seconds)
            if answer.status not in attack.statuses:
                problems.append(f"{attack.name}: {answer.data[:300]!r}")
            if any(secret in answer.data for secret in SECRETS):
                problems.append(f"{attack.name}: a file outside the library was read")
            if b"\nset-cookie" in answer.data.lower().partition(b"\r\n\r\n")[0]:
                problems.append(f"{attack.name}: a cookie was set")
        return problems, len(made), longest


@contextmanager
def attacked_world(settings: Settings, folder: Path) -> Iterator[World]:
    """A server, as long as the block lasts.

    Args:
        settings: Its Redis and data folder, and an empty library root called `photos` in `folder`.
        folder: A folder that nothing else uses.
    """
    library = settings.library_roots[0].path
    secret = folder / "secret"
    secret.mkdir()
    for name in ("canary.txt", "inside.jpg"):
        (secret / name).write_bytes(CANARY)
    swapped = index_files(settings, library, ["file.jpg", "folder/inside.jpg"], segment="swapped")
    (library / "file.jpg").unlink()
    (library / "file.jpg").symlink_to(secret / "canary.txt")
    (library / "folder").rename(folder / "folder-before")
    (library / "folder").symlink_to(secret)
    (library / "way-out").symlink_to(secret)
    changed = settings.model_copy(update={"api_token": SecretStr(TOKEN), "max_upload_bytes": MAX_UPLOAD_BYTES})
    with something_of_everything(settings, library) as known, running_web(changed) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        ids = tuple(entry.image_id for entry in swapped)
        yield World(address, known, Targets((host, int(port)), TOKEN, known["IMAGE"], ids))
