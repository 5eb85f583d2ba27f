from __future__ import annotations

import threading
import time

import pytest

from common.stopwatch import StopWatch, lap, milliseconds_since, with_total


def test_a_lap_has_the_time_since_the_one_before() -> None:
    began = time.perf_counter()
    watch = StopWatch({"queue": 5.0})
    threading.Event().wait(0.02)
    watch.lap("decode")
    watch.lap("rank")
    took = watch.took_ms()
    assert list(took) == ["total", "queue", "decode", "rank"]
    assert took["queue"] == 5.0
    assert took["decode"] >= 20
    assert took["total"] == pytest.approx(sum(took.values()) - took["total"], abs=0.01)
    assert took["decode"] + took["rank"] <= (time.perf_counter() - began) * 1000


def test_a_stage_may_come_twice() -> None:
    watch = StopWatch({"rank": 5.0})
    watch.lap("rank")
    took = watch.took_ms()
    assert list(took) == ["total", "rank"]
    assert took["rank"] >= 5.0


def test_a_lap_goes_to_the_watch_that_runs_in_this_thread() -> None:
    lap("nowhere")
    watch, other = StopWatch(), StopWatch()

    def elsewhere() -> None:
        lap("lost")
        with other.running():
            lap("there")

    with watch.running():
        lap("here")
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        lap("still here")
    lap("nowhere")
    assert list(watch.took_ms()) == ["total", "here", "still here"]
    assert list(other.took_ms()) == ["total", "there"]


def test_the_total_is_made_anew() -> None:
    assert with_total({"total": 99.0, "a": 1.234, "b": 2.0}) == {"total": 3.23, "a": 1.23, "b": 2.0}


def test_a_clock_that_is_ahead_gives_nothing_negative() -> None:
    assert milliseconds_since(time.time() + 100) == 0
    assert milliseconds_since(time.time() - 100) >= 100_000
