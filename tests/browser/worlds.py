"""A server that the tests of a module share: what it stores stays, what Redis knows is forgotten after each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from PIL import Image
from pydantic import SecretStr

from benchmarks.system import running_web
from common.duplicates import DuplicateBoard
from common.progress import JobBoard
from common.settings import LibraryRoot, Settings
from tests.unit.web.building import index_files


@dataclass(frozen=True)
class World:
    """A server, and what is behind it.

    Attributes:
        address: The server's.
        settings: Its settings.
        library: The folder of its only root, `photos`.
        redis: Its Redis.
    """

    address: str
    settings: Settings
    library: Path
    redis: redis.Redis

    @property
    def jobs(self) -> JobBoard:
        """The index jobs as the workers see them."""
        return JobBoard(self.redis)

    @property
    def duplicates(self) -> DuplicateBoard:
        """The searches for duplicates as the workers see them."""
        return DuplicateBoard(self.redis, self.settings.data_dir)

    def forget_jobs(self) -> None:
        """Forgets all jobs and workers."""
        self.redis.flushall()
        for folder in ("jobs", "duplicates"):
            shutil.rmtree(self.settings.data_dir / folder, ignore_errors=True)


@contextmanager
def running_world(folder: Path, redis_url: str, names: Sequence[str] = (), token: str = "") -> Iterator[World]:
    """Starts a server.

    Args:
        folder: Where its data and its library are made.
        redis_url: Its Redis.
        names: Pictures to index, below the root.
        token: What the server asks for before it changes anything.
    """
    library = folder / "photos"
    library.mkdir()
    settings = Settings(
        redis_url=redis_url,
        data_dir=folder / "data",
        library_roots=(LibraryRoot(name="photos", path=library),),
        api_token=SecretStr(token) if token else None,
    )
    for number, name in enumerate(names):
        _paint(library / name, number)
    if names:
        index_files(settings, library, names)
    with redis.Redis.from_url(redis_url) as client, running_web(settings) as address:
        yield World(address, settings, library, client)


def _paint(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = ((96, 64), (64, 96), (80, 80), (128, 64))[number % 4]
    Image.new("HSV", size, (number * 37 % 256, 110, 190)).convert("RGB").save(path)
