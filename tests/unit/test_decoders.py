"""Decoding in other processes: real ones, which really crash, hang and swallow memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.injection import injected
from common.errors import (
    DecoderCrashed,
    DecoderFault,
    DecoderKilled,
    DecoderUnavailable,
    DecodingTooSlow,
    EmptyImage,
    ImageRejected,
    TooMuchMemoryNeeded,
)
from common.images import ImageDecoder
from common.settings import Settings
from tests.unit.helpers import REPOSITORY, encoded, noise
from workers.decoders.limits import DecodingLimits
from workers.decoders.pool import DecoderPool
from workers.decoders.process import DecoderOptions, DecoderProcess

OPTIONS = DecoderOptions((16, 16), 5_000_000)
SETTINGS = Settings(max_upload_bytes=1_000_000, max_file_bytes=2_000_000, max_image_pixels=5_000_000)
GOOD = encoded(noise(40, 30), "JPEG")


def trap(name: str) -> bytes:
    """A good picture that springs a trap on the process that decodes it."""
    return GOOD + b"trap:" + name.encode()


@pytest.fixture
def make_pool() -> Iterator[Callable[..., DecoderPool]]:
    """Makes pools whose processes have traps."""
    pools: list[DecoderPool] = []

    def make(processes: int = 1, options: DecoderOptions = OPTIONS, **others: int) -> DecoderPool:
        pools.append(DecoderPool(options, processes, **others))
        return pools[-1]

    with injected(trap="trap"):
        yield make
    for pool in pools:
        pool.close()


def pids(pool: DecoderPool) -> list[int]:
    return [process.pid for process in pool._idle]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- what it gives ---------------------------------------------------------------------------------------------


def test_the_pixels_are_those_of_the_decoder_itself(make_pool: Callable[..., DecoderPool]) -> None:
    ours = make_pool().for_files(SETTINGS)
    its = ImageDecoder.for_files(SETTINGS, (16, 16))
    for image_format in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF"):
        data = encoded(noise(500, 300, seed=3), image_format)
        for crop in (None, (0.25, 0.1, 0.9, 0.7)):
            got, expected = ours.decode(data, crop), its.decode(data, crop)
            assert np.array_equal(got.pixels, expected.pixels)
            assert (got.width, got.height, got.thumbnail) == (500, 300, expected.thumbnail)
        assert ours.decode(data, thumbnail=False).thumbnail == b""
        assert ours.preview(data) == its.preview(data)


@pytest.mark.parametrize("data", [b"", b"text", GOOD[:300], b"x" * 1_000_001, encoded(Image.new("1", (3000, 2000)))])
def test_a_rejected_picture_has_the_same_error(make_pool: Callable[..., DecoderPool], data: bytes) -> None:
    ours, its = make_pool().for_uploads(SETTINGS), ImageDecoder.for_uploads(SETTINGS)
    for call in ("decode", "preview"):
        with pytest.raises(ImageRejected) as expected:
            getattr(its, call)(data)
        with pytest.raises(type(expected.value)) as got:
            getattr(ours, call)(data)
        assert str(got.value) == str(expected.value)
        assert vars(got.value) == vars(expected.value)
    assert type(expected.value) is not EmptyImage or pids(ours._pool) == []


# --- what happens to a process -----------------------------------------------------------------------------------


def test_one_process_serves_one_picture_after_another(make_pool: Callable[..., DecoderPool]) -> None:
    pool = make_pool(4)
    assert pids(pool) == []
    pool.prepare()
    (first,) = pids(pool)
    for _ in range(3):
        pool.for_files(SETTINGS).decode(GOOD)
    assert pids(pool) == [first]
    pool.close()
    assert not is_alive(first)


def test_after_many_pictures_it_is_replaced(make_pool: Callable[..., DecoderPool]) -> None:
    pool = make_pool(most_pictures=2)
    decoder = pool.for_files(SETTINGS)
    seen = []
    for _ in range(5):
        decoder.decode(GOOD)
        seen.append(pids(pool))
    assert [len(found) for found in seen] == [1, 0, 1, 0, 1]
    assert seen[0] != seen[2] != seen[4]


def test_so_many_work_at_a_time(make_pool: Callable[..., DecoderPool]) -> None:
    pool = make_pool(2)
    decoder = pool.for_files(SETTINGS)
    threads = [threading.Thread(target=decoder.decode, args=(GOOD,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 1 <= len(pids(pool)) <= 2


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("crash", DecoderCrashed, r"signal 11, SIGSEGV"),
        ("exit", DecoderCrashed, r"exit status 3"),
        ("babble", DecoderCrashed, r"no sensible answer"),
        ("kill", DecoderKilled, r"signal 9, SIGKILL"),
    ],
)
def test_a_picture_that_ends_its_process_costs_only_itself(
    make_pool: Callable[..., DecoderPool], caplog: pytest.LogCaptureFixture, name: str, error: type, reason: str
) -> None:
    pool = make_pool()
    decoder = pool.for_files(SETTINGS)
    decoder.decode(GOOD)
    before = pids(pool)
    with pytest.raises(error, match=reason):
        decoder.decode(trap(name))
    assert caplog.text.count("a decoder process was lost") == 2  # it was tried once more, and not again
    assert not any(map(is_alive, before))
    assert decoder.decode(GOOD).width == 40


def test_a_process_that_died_in_between_costs_nothing(make_pool: Callable[..., DecoderPool]) -> None:
    pool = make_pool()
    pool.prepare()
    os.kill(pids(pool)[0], signal.SIGKILL)
    assert pool.for_files(SETTINGS).decode(GOOD).width == 40


def test_a_picture_that_computes_for_ever_is_stopped(make_pool: Callable[..., DecoderPool]) -> None:
    limits = DecodingLimits(base_seconds=0.5)
    decoder = make_pool(options=replace(OPTIONS, limits=limits)).for_files(SETTINGS)
    with pytest.raises(DecodingTooSlow) as caught:
        decoder.decode(trap("spin"))
    assert caught.value.seconds == pytest.approx(limits.seconds(40 * 30))
    assert decoder.decode(GOOD).width == 40


def test_a_picture_that_does_nothing_for_ever_is_stopped(make_pool: Callable[..., DecoderPool]) -> None:
    limits = DecodingLimits(base_seconds=20, patience=0.05)  # a second
    decoder = make_pool(options=replace(OPTIONS, limits=limits)).for_files(SETTINGS)
    with pytest.raises(DecodingTooSlow):
        decoder.decode(trap("stop"))
    assert decoder._pool._idle == []


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_picture_gets_only_the_memory_that_its_size_explains(make_pool: Callable[..., DecoderPool]) -> None:
    pool = make_pool()
    decoder = pool.for_files(SETTINGS)
    decoder.decode(GOOD)
    before = pids(pool)
    with pytest.raises(TooMuchMemoryNeeded):
        decoder.decode(trap("allocate"))
    assert pids(pool) == before  # the process itself is sound, and the limit is lifted again
    assert decoder.decode(encoded(noise(1200, 400))).width == 1200


@pytest.mark.parametrize("image_format", ["WEBP", "JPEG"])
def test_a_large_picture_gets_what_it_needs(make_pool: Callable[..., DecoderPool], image_format: str) -> None:
    # More than what the smallest picture gets. A WebP takes it when it is opened, before anything is decoded.
    large = encoded(Image.new("RGB", (6000, 6000)), image_format, quality=1, method=0)
    decoder = make_pool(options=replace(OPTIONS, max_pixels=50_000_000)).for_files(SETTINGS)
    assert decoder.decode(large).width == 6000


def test_a_fault_of_ours_is_that_pictures_and_in_the_log(
    make_pool: Callable[..., DecoderPool], caplog: pytest.LogCaptureFixture
) -> None:
    decoder = make_pool().for_files(SETTINGS)
    with pytest.raises(DecoderFault, match="ZeroDivisionError: a fault of ours") as caught:
        decoder.decode(trap("fail"))
    assert isinstance(caught.value, ImageRejected)
    assert "Traceback" in caplog.text
    assert decoder.decode(GOOD).width == 40


def test_where_no_process_starts_the_picture_is_not_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(DecoderUnavailable, match="does not start"):
            DecoderPool(OPTIONS, 1).for_files(SETTINGS).decode(GOOD)


def test_a_process_knows_no_secrets(monkeypatch: pytest.MonkeyPatch, make_pool: Callable[..., DecoderPool]) -> None:
    monkeypatch.setenv("IMAGESEARCH_API_TOKEN", "secret")
    pool = make_pool()
    pool.prepare()
    environment = Path(f"/proc/{pids(pool)[0]}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"IMAGESEARCH" not in environment


def test_what_asks_a_worker_to_end_leaves_its_decoders_working() -> None:
    process = DecoderProcess(OPTIONS)
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.1)
    assert is_alive(process.pid)
    process.close()
    assert not is_alive(process.pid)


PARENT = """
import sys, time
from workers.decoders.pool import DecoderPool
from workers.decoders.process import DecoderOptions
pool = DecoderPool(DecoderOptions((16, 16), 10**6), 1)
pool.prepare()
print(pool._idle[0].pid, flush=True)
time.sleep(600)
"""


def test_processes_end_with_the_worker_however_it_ends() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 30
        while is_alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
