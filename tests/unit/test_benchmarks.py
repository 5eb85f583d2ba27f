"""The benchmarks start, and what they compute themselves is right. What they measure is no matter of a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import measuring
from benchmarks.http_load import Answer, summary, upload_body
from benchmarks.photos import copy_photos, photos_in
from tests.pictures import photo

PROJECT = Path(__file__).parents[2]
STATUS = "Name:\tpython\nVmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\n"
BENCHMARKS = ["bench_indexing", "bench_query", "bench_footprint", "bench_runtimes", "bench_ranking", "bench_pages"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_explains_itself(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "--images" in done.stdout


@pytest.mark.parametrize("percent", [0, 50, 95, 99, 100])
def test_percentiles_are_those_of_numpy(percent: float) -> None:
    values = np.random.default_rng(1).random(37).tolist()
    assert measuring.percentile(values, percent) == pytest.approx(np.percentile(values, percent))


def test_the_percentile_of_one_value_is_the_value() -> None:
    assert measuring.percentile([3.0], 99) == 3.0


def test_repeated_measurements_show_how_far_they_lie_apart() -> None:
    assert measuring.repeated([8.0, 12.0, 10.0]) == {"median": 10.0, "spread": 0.4, "each": [8.0, 12.0, 10.0]}


def test_a_target_is_reached_from_the_right_side() -> None:
    assert measuring.at_least(0.96, 0.95)["reached"]
    assert not measuring.at_most(0.96, 0.95)["reached"]
    assert measuring.at_least(0.96, None)["reached"] is None


def test_the_fields_of_proc_are_read_in_megabytes() -> None:
    assert measuring.field_mb(STATUS, "VmHWM") == pytest.approx(2.048)
    with pytest.raises(ValueError, match="VmSwap"):
        measuring.field_mb(STATUS, "VmSwap")


def test_the_memory_of_this_process_is_counted() -> None:
    assert measuring.peak_rss_mb() >= measuring.pss_mb() > 10


def test_waiting_is_added_up_search_by_search() -> None:
    answers = [
        Answer(0.100, {"total": 90.0, "queue": 1.0, "poll": 30.0, "new stage": 2.0}),
        Answer(0.200, {"total": 180.0, "queue": 20.0, "poll": 0.0}),
        Answer(0.300, {"total": 270.0, "queue": 2.0, "poll": 8.0}),
    ]
    figures = summary(answers)
    assert figures["p50_ms"] == 200
    assert figures["queue_and_poll_p50_ms"] == 20
    assert figures["outside_total_p50_ms"] == 20
    assert figures["stages_mean_ms"]["new stage"] == pytest.approx(0.67)


def test_copies_of_a_photo_have_contents_of_their_own(tmp_path: Path) -> None:
    originals = tmp_path / "originals"
    originals.mkdir()
    photo(1, (20, 10)).save(originals / "a.jpg")
    photo(2, (20, 10)).save(originals / "b.jpg")
    copies = copy_photos(photos_in(originals), tmp_path / "copies", 5)
    assert len({path.read_bytes() for path in copies}) == 5
    assert photos_in(tmp_path / "copies") == copies


def test_an_upload_carries_the_photo(tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"bytes of a picture")
    body = upload_body(picture, "image", k=5)
    assert b'name="image"' in body
    assert b'name="k"\r\n\r\n5\r\n--' in body
    assert b"\r\n\r\nbytes of a picture\r\n--" in body
