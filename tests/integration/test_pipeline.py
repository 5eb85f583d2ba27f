"""Folder in, ranked results out: through Redis, with real workers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.system import System, running_web
from common.errors import OutsideLibrary
from common.messages import IndexJob
from common.settings import Settings
from common.store import open_store
from tests.integration.conftest import fill
from tests.pictures import photo
from tests.unit.helpers import REPOSITORY


def counts(job: IndexJob) -> dict[str, int]:
    fields = ("found", "unchanged", "duplicates", "total", "done", "failed", "removed")
    return {name: getattr(job, name) for name in fields if getattr(job, name)}


def test_every_indexed_picture_is_its_own_best_match(running: System, pictures: Path) -> None:
    job = running.index("photos")
    assert (job.state, counts(job)) == ("done", {"found": 40, "total": 40, "done": 40})
    assert job.started_at <= job.finished_at  # type: ignore[operator]
    for path in sorted(pictures.rglob("*.jpg")):
        result = running.search(path.read_bytes(), k=3)
        assert result.state == "done"
        assert result.indexed == 40
        best = result.results[0]
        assert best.path == f"photos/{path.relative_to(pictures).as_posix()}"
        assert best.score >= 0.999
        assert best.distance <= 0.05
        assert [hit.rank for hit in result.results] == [1, 2, 3]
        assert (best.width, best.height) == (320, 240)


def test_an_empty_store_answers_an_empty_list(running: System) -> None:
    result = running.search(picture_bytes(1))
    assert (result.state, result.results, result.indexed) == ("done", [], 0)


def picture_bytes(seed: int) -> bytes:
    import io

    buffer = io.BytesIO()
    photo(seed).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def test_a_first_start_takes_no_missing_data_folder_for_trouble(running: System) -> None:
    logs = [log.read_text() for log in running.settings.data_dir.parent.glob("worker-*.log")]
    assert len(logs) == 2
    assert "folder-not-writable" not in "".join(logs)


def test_a_second_run_embeds_nothing(running: System, pictures: Path) -> None:
    running.index("photos")
    segments = sorted(open_store(running.settings).segments_path.iterdir())
    job = running.index(str(pictures))
    assert (job.state, counts(job)) == ("done", {"found": 40, "unchanged": 40})
    assert sorted(open_store(running.settings).segments_path.iterdir()) == segments


def test_files_that_change_end_right(running: System, pictures: Path) -> None:
    running.index("photos")
    holiday = pictures / "holiday"
    fill(holiday, range(100, 103))  # added
    photo(200).save(holiday / "0000.jpg", quality=90)  # changed
    os.utime(holiday / "0001.jpg", (1, 1))  # touched
    shutil.copy(holiday / "0002.jpg", holiday / "copy.jpg")
    (holiday / "0003.jpg").rename(pictures / "moved.jpg")
    (holiday / "0004.jpg").unlink()
    job = running.index("photos")
    expected = {"found": 43, "unchanged": 36, "total": 7, "done": 7, "duplicates": 3, "removed": 2}
    assert counts(job) == expected
    new = running.search((holiday / "0000.jpg").read_bytes(), k=1).results[0]
    assert (new.path, round(new.score, 3)) == ("photos/holiday/0000.jpg", 1.0)
    moved = running.search((pictures / "moved.jpg").read_bytes(), k=1).results[0]
    assert moved.path == "photos/moved.jpg"
    gone = running.search(picture_bytes(4), k=50)
    assert "photos/holiday/0004.jpg" not in {hit.path for hit in gone.results}
    assert gone.indexed == 43


def test_a_bad_file_is_listed_and_the_rest_is_indexed(running: System, pictures: Path) -> None:
    (pictures / "empty.jpg").touch()
    (pictures / "text.png").write_text("hello")
    (pictures / "cut.jpg").write_bytes(picture_bytes(3)[:900])
    (pictures / "notes.txt").write_text("not a picture by name either")
    (pictures / "UPPER.JPeG").write_bytes(picture_bytes(77))
    (pictures / "loop").symlink_to(pictures, target_is_directory=True)
    job = running.index("photos")
    assert (job.state, counts(job)) == ("done", {"found": 44, "total": 44, "done": 41, "failed": 3})
    errors = {error.path: error.error for error in running.client.job_errors(job.id)}
    assert errors.keys() == {"photos/cut.jpg", "photos/empty.jpg", "photos/text.png"}
    assert "empty" in errors["photos/empty.jpg"]
    assert "damaged" in errors["photos/cut.jpg"]
    assert "supported format" in errors["photos/text.png"]


def test_results_can_be_limited_to_a_folder(running: System, pictures: Path) -> None:
    running.index("photos")
    query = (pictures / "holiday" / "0005.jpg").read_bytes()
    for folder in ("photos/shop", str(pictures / "shop"), "photos/shop/shoes"):
        result = running.search(query, k=100, folder=folder)
        assert len(result.results) == 20
        assert all(hit.path.startswith("photos/shop/shoes/") for hit in result.results)


def test_a_stored_picture_and_a_part_of_it_can_be_searched(running: System, pictures: Path) -> None:
    running.index("photos")
    uploaded = running.search((pictures / "holiday" / "0007.jpg").read_bytes(), k=5)
    stored = running.search(image_id=uploaded.results[0].image_id, k=5)
    assert [hit.path for hit in stored.results] == [hit.path for hit in uploaded.results]
    np.testing.assert_allclose([h.score for h in stored.results], [h.score for h in uploaded.results], atol=1e-3)
    part = running.search(image_id=uploaded.results[0].image_id, k=1, crop=(0, 0, 0.5, 0.5))
    assert part.state == "done"
    assert part.results[0].score < 0.999


def test_a_new_picture_is_found_as_soon_as_its_job_is_done(running: System, pictures: Path) -> None:
    running.index("photos")
    running.search(picture_bytes(1))
    for seed in (300, 301, 302):
        fill(pictures / "new", range(seed, seed + 1))
        running.index("photos/new")
        best = running.search(picture_bytes(seed), k=1).results[0]
        assert best.path == f"photos/new/{seed:04}.jpg"


def test_a_folder_outside_the_library_is_refused(running: System, tmp_path: Path) -> None:
    with pytest.raises(OutsideLibrary, match="LIBRARY_ROOTS"):
        running.client.submit_index_job(str(tmp_path / "elsewhere"))


def test_an_empty_folder_does_not_wipe_what_is_indexed(running: System, pictures: Path) -> None:
    running.index("photos")
    for folder in ("holiday", "shop"):
        shutil.rmtree(pictures / folder)
    job = running.index("photos")
    assert job.state == "failed"
    assert "mounted" in (job.error or "")
    assert running.search(picture_bytes(1)).indexed == 40


def test_a_broken_upload_fails_with_a_reason(running: System) -> None:
    result = running.search(picture_bytes(1)[:500])
    assert result.state == "failed"
    assert "damaged" in (result.error or "")


def test_vgg16_finds_every_picture_itself(settings: Settings, tmp_path: Path, library: Path) -> None:
    """Also: the untrained weights that one process makes are those of the other."""
    fill(library, range(4))
    system = System(settings, tmp_path)
    try:
        bulk = system.start_worker("bulk", ready=False)
        system.start_worker("query")
        bulk.wait_ready()
        assert system.index("photos").done == 4
        for path in sorted(library.iterdir()):
            best = system.search(path.read_bytes(), k=1).results[0]
            assert best.path == f"photos/{path.name}"
            assert best.score >= 0.999
        result = system.search(image_id=best.image_id)
        assert (result.model, result.trained) == ("vgg16/fc1", False)
        assert {worker.precision for worker in system.client.workers()} == {"float32"}
    finally:
        system.kill()


# --- the clients of README.md, as they stand there ----------------------------------------------------------


@pytest.fixture
def site(running: System) -> Iterator[str]:
    """The web tier of the running system."""
    with running_web(running.settings) as address:
        yield address


@pytest.fixture
def folder(running: System, tmp_path: Path) -> Path:
    """A working folder with `photo.jpg`, while the library has the same picture among others."""
    fill(running.settings.library_roots[0].path / "2026", range(40))
    folder = tmp_path / "work"
    folder.mkdir()
    photo(7).save(folder / "photo.jpg", quality=90)
    return folder


def example(language: str, site: str) -> str:
    """The first block in a language in the section of the API, for the server and the library of the test."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## The API$(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert section
    block = re.search(rf"^```{language}$\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    assert block
    code = block[1]
    for said, meant in (("http://127.0.0.1:8000", site), ("Pictures/2026", "photos/2026")):
        assert said in code
        code = code.replace(said, meant)
    return code


def run(command: list[str], folder: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_client_indexes_searches_and_pages(site: str, folder: Path) -> None:
    lines = run([sys.executable, "-c", example("python", site)], folder).splitlines()
    assert lines[0] == "done: 40 indexed, 0 unchanged, 0 failed"
    found = [line.split() for line in lines[1:]]
    assert found[0] == ["1", "1.000", "photos/2026/0007.jpg"]
    assert [rank for rank, _, _ in found] == [str(rank) for rank in range(1, 41)]
    assert len({path for _, _, path in found}) == 40


def test_curl_commands_index_search_and_page(site: str, folder: Path) -> None:
    job = json.loads(run(["bash", "-euo", "pipefail", "-c", example("sh", site)], folder))
    assert (job["state"], job["done"]) == ("done", 40)
    first, second = (json.loads((folder / f"page{page}.json").read_text())["results"] for page in (1, 2))
    assert (first[0]["path"], first[0]["rank"]) == ("photos/2026/0007.jpg", 1)
    assert [hit["rank"] for hit in first + second] == list(range(1, 41))
    assert len({hit["path"] for hit in first + second}) == 40
