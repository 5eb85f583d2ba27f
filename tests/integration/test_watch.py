"""`imagesearch watch` with real workers: what happens in the folder happens in the results."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.system import System, environment, wait_until
from tests.integration.conftest import fill
from tests.pictures import photo

FINAL = {"done", "failed", "cancelled"}


def picture_bytes(seed: int) -> bytes:
    buffer = io.BytesIO()
    photo(seed).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def stored(system: System, seed: int) -> set[str]:
    """The paths under which this very picture is found."""
    hits = system.search(picture_bytes(seed), k=100).results
    return {hit.path for hit in hits if hit.score > 0.999}


@pytest.fixture
def watch(running: System, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A watch on the library, which holds one picture and is indexed."""
    (root,) = running.settings.library_roots
    fill(root.path / "old", range(1))
    running.client.redis.flushdb()
    wait_until(lambda: len(running.client.workers()) >= 2, "the workers report again")
    with (tmp_path / "watch.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "common.cli", "watch", str(root.path)],
            env=environment(running.settings),
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: stored(running, 0) == {"photos/old/0000.jpg"}, "the first job is done", 30)
        yield process
    finally:
        process.kill()
        process.wait()


def no_file_failed(system: System) -> bool:
    wait_until(lambda: all(job.state in FINAL for job in system.client.jobs()), "the jobs end", 30)
    return all((job.state, job.failed) == ("done", 0) for job in system.client.jobs())


def test_files_that_appear_change_and_vanish(running: System, watch: subprocess.Popen[bytes], tmp_path: Path) -> None:
    folder = running.settings.library_roots[0].path
    fill(folder / "new", range(1, 3))
    wait_until(lambda: stored(running, 1) == {"photos/new/0001.jpg"}, "the new file is found", 20)

    (folder / "new" / "0001.jpg").rename(folder / "old" / "moved.jpg")
    wait_until(lambda: stored(running, 1) == {"photos/old/moved.jpg"}, "the moved file is found", 20)
    (folder / "old" / "moved.jpg").unlink()
    wait_until(lambda: stored(running, 1) == set(), "the removed file is gone", 20)

    (folder / "new").rename(folder / "renamed")
    wait_until(lambda: stored(running, 2) == {"photos/renamed/0002.jpg"}, "the renamed folder is found", 20)
    shutil.rmtree(folder / "renamed")
    wait_until(lambda: stored(running, 2) == set(), "the removed folder is gone", 20)

    assert stored(running, 0) == {"photos/old/0000.jpg"}
    assert no_file_failed(running)
    watch.send_signal(signal.SIGTERM)
    assert watch.wait(60) == 0
    lines = (tmp_path / "watch.log").read_text().splitlines()
    assert lines[0].startswith("Watching ")
    assert len(lines) - 1 == len(running.client.jobs())
    assert all(line.startswith("Job ") for line in lines[1:])


def test_a_file_that_is_written_slowly_is_indexed_when_it_is_whole(
    running: System, watch: subprocess.Popen[bytes]
) -> None:
    folder = running.settings.library_roots[0].path
    data = picture_bytes(7)
    piece = len(data) // 8 + 1
    with (folder / "slow.jpg").open("wb") as file:
        for start in range(0, len(data), piece):
            file.write(data[start : start + piece])
            file.flush()
            assert stored(running, 7) == set()
            time.sleep(0.5)
    wait_until(lambda: stored(running, 7) == {"photos/slow.jpg"}, "the whole file is found", 20)
    assert no_file_failed(running)
    watch.send_signal(signal.SIGINT)
    assert watch.wait(60) == 0
