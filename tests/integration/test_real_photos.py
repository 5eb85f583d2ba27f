"""Real photos and a real trained model, where they are present."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.injection import injected
from benchmarks.retrieval_quality import stored_quality
from benchmarks.system import System
from common.settings import LibraryRoot, Settings

GOOD = 40


@pytest.fixture
def real(settings: Settings, assets: Path, tmp_path: Path) -> Iterator[System]:
    """A system on the real photos with the trained SqueezeNet and a bulk worker."""
    roots = tuple(LibraryRoot(name=name, path=assets / "images" / name) for name in ("corel1k", "odd"))
    model = str(assets / "models" / "squeezenet_imagenet.keras")
    system = System(settings.model_copy(update={"library_roots": roots, "model": model}), tmp_path)
    try:
        system.start_worker("bulk")
        yield system
    finally:
        system.kill()


def test_similar_photos_are_found(real: System, tmp_path: Path) -> None:
    job = real.index("corel1k")
    assert (job.state, job.done, job.failed) == ("done", 1000, 0)
    again = real.index("corel1k")
    assert (again.unchanged, again.total) == (1000, 0)
    figures = stored_quality(real.settings, tmp_path)
    assert figures["nearest_in_class"] >= 0.94
    assert figures["precision_at_10"] >= 0.92
    assert figures["mean_average_precision"] >= 0.79


def test_odd_and_hostile_files_are_indexed_or_listed(real: System, assets: Path) -> None:
    files = {path.name for path in (assets / "images" / "odd").rglob("*") if path.is_file()}
    job = real.index("odd")
    errors = real.client.job_errors(job.id)
    assert job.state == "done"
    assert job.found == job.total == job.done + job.failed == len(files)
    assert len(errors) == job.failed
    assert all(error.error for error in errors)
    assert job.done >= 190


def test_broken_files_among_good_ones_are_listed_each_with_one_reason(
    light: System, library: Path, assets: Path
) -> None:
    shutil.copytree(assets / "images" / "odd" / "pillow", library / "odd")
    odd = len(list((library / "odd").iterdir()))
    for number in range(GOOD):
        data = (assets / "images" / "corel1k" / f"{number}.jpg").read_bytes()
        (library / f"{number}.jpg").write_bytes(data)
        (library / f"{number}-cut.jpg").write_bytes(data[: len(data) // 2])
    with injected(stub=0):
        light.start_worker("bulk")
    job = light.index("photos")
    errors = light.client.job_errors(job.id)
    count = odd + 2 * GOOD
    assert (job.state, job.found, job.total, job.done + job.failed) == ("done", count, count, count)
    assert len({error.path for error in errors}) == len(errors) == job.failed
    cut = [error for error in errors if error.path.endswith("-cut.jpg")]
    assert len(cut) == GOOD
    assert all("damaged" in error.error for error in cut)
    assert not any(error.path == f"photos/{number}.jpg" for error in errors for number in range(GOOD))
    again = light.index("photos")
    assert (again.unchanged, again.failed, again.done) == (job.done, job.failed, 0)
