"""Fixtures that every tier of tests shares: real Redis, real pictures, settings of its own for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from common.redis_server import redis_server_binary
from common.settings import LibraryRoot, Settings

# Real photos and a real trained model that are not part of the project; see tests/README.md.
ASSETS = Path(os.environ.get("IMAGESEARCH_TEST_ASSETS", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real photos and models; tests that need it are skipped where it is missing."""
    if not (ASSETS / "images").is_dir():
        pytest.skip(f"no test assets at {ASSETS}; set IMAGESEARCH_TEST_ASSETS")
    return ASSETS


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """A real Redis of this test run, on a Unix socket. Gives its URL."""
    # Not tmp_path: a socket's path has at most about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="is-"))
    socket = folder / "redis.sock"
    command = [
        str(redis_server_binary()),
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"unix://{socket}"
    deadline = time.monotonic() + 20
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert process.poll() is None, "redis-server ended"
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(10)
    shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """An empty library root called `photos`."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(redis_url: str, tmp_path: Path, library: Path) -> Settings:
    """Settings with a Redis, a data folder and a library of their own."""
    return Settings(
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        library_roots=(LibraryRoot(name="photos", path=library),),
        weights="untrained",
    )
