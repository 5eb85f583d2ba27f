"""Real workers in processes, on a real Redis and a real store.

At the end of a test they are killed, which takes no time; how they stop when they are asked to is a matter of
`test_stopping.py`.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks.injection import injected
from benchmarks.system import System, running_redis
from common.settings import LibraryRoot, Settings
from common.store import open_store
from tests.pictures import photo

# So short that every job has several batches.
BATCH_SECONDS = 0.01
# What a picture takes where the model only sleeps: a job of some hundred lasts long enough for something to happen.
PICTURE_SECONDS = 0.02
# Workers renew their leases every two seconds, also on a busy machine nearly so.
LEASE_SECONDS = 8.0


@pytest.fixture
def system(settings: Settings, fast_model: Path, tmp_path: Path) -> Iterator[System]:
    """A system without workers, with the small model; whatever a test starts is stopped at its end."""
    changed = settings.model_copy(update={"model": str(fast_model), "batch_seconds": BATCH_SECONDS})
    system = System(changed, tmp_path)
    yield system
    system.kill()


@pytest.fixture
def light(settings: Settings, tmp_path: Path) -> Iterator[System]:
    """A system without workers, for what has nothing to do with the network.

    The workers that a test starts have a model that only sleeps, so they are ready in a second; and what a killed one
    held goes to another after a shorter time.
    """
    system = System(settings.model_copy(update={"batch_seconds": BATCH_SECONDS}), tmp_path)
    with injected(stub=PICTURE_SECONDS, lease=LEASE_SECONDS):
        yield system
    system.kill()


@pytest.fixture(scope="module")
def shared_system(fast_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with a bulk and a query worker, for all tests of a module."""
    folder = tmp_path_factory.mktemp("system")
    (folder / "photos").mkdir()
    with running_redis() as url:
        system = System(
            Settings(
                redis_url=url,
                data_dir=folder / "data",
                library_roots=(LibraryRoot(name="photos", path=folder / "photos"),),
                model=str(fast_model),
                precision="float32",
                threads=1,
                batch_seconds=BATCH_SECONDS,
            ),
            folder,
        )
        try:
            bulk = system.start_worker("bulk", ready=False)
            system.start_worker("query")
            bulk.wait_ready()
            yield system
        finally:
            system.kill()


@pytest.fixture
def running(shared_system: System) -> System:
    """The shared system with an empty library and an empty store: the workers notice by themselves."""
    (root,) = shared_system.settings.library_roots
    shutil.rmtree(root.path)
    root.path.mkdir()
    for segment in open_store(shared_system.settings).segments_path.iterdir():
        segment.unlink()
    return shared_system


@pytest.fixture
def pictures(running: System) -> Path:
    """The library of the running system with 40 different pictures in two folders."""
    folder = running.settings.library_roots[0].path
    fill(folder / "holiday", range(20))
    fill(folder / "shop" / "shoes", range(20, 40))
    return folder


def fill(folder: Path, seeds: range) -> None:
    """Writes one JPEG for each seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"{seed:04}.jpg").write_bytes(jpeg(seed))


@cache  # to paint one takes ten milliseconds, and many tests want the same hundreds
def jpeg(seed: int) -> bytes:
    """The bytes of the picture of a seed."""
    buffer = io.BytesIO()
    photo(seed).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
