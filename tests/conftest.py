"""Fixtures that every tier of tests shares: real Redis, real pictures, settings of its own for each test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from benchmarks.system import running_redis
from common.settings import LibraryRoot, Settings
from tests.models import save_fast_model

# Real photos and a real trained model that are not part of the project; see tests/README.md.
ASSETS = Path(os.environ.get("IMAGESEARCH_TEST_ASSETS", Path(__file__).parents[2] / "shared"))


def pytest_configure() -> None:
    # Shells start what they put into the background with Ctrl-C ignored, and whatever is started there inherits that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real photos and models; tests that need it are skipped where it is missing."""
    if not (ASSETS / "images").is_dir():
        pytest.skip(f"no test assets at {ASSETS}; set IMAGESEARCH_TEST_ASSETS")
    return ASSETS


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """A real Redis of this test run. Gives its URL."""
    with running_redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def fast_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with seeded weights as a `.keras` file: hundreds of pictures a second on any machine."""
    return save_fast_model(tmp_path_factory.mktemp("model"))


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
        precision="float32",  # `auto` measures and converts the model at the first start
        threads=1,  # to find out their share, workers wait for each other
    )
