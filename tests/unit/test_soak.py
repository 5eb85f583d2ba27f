"""What the soak test counts as wrong."""

from __future__ import annotations

import os
import time

import pytest

from tests.chaos import memory
from tests.chaos.load import Outcome
from tests.chaos.memory import MemoryWatch, Trend
from tests.chaos.soak_report import KILL_SECONDS, Kill, Report, summary


def report(*outcomes: Outcome, trends: tuple[Trend, ...] = ()) -> Report:
    made = Report(30, 400, kills=[Kill("redis", 100.0)], outcomes=list(outcomes), trends=list(trends))
    made.judge()
    return made


def test_only_searches_near_a_kill_may_fail() -> None:
    near = report(Outcome(50, 101, "lost"), Outcome(100 + KILL_SECONDS - 1, 200, "refused"), Outcome(1, 2))
    assert near.problems == []
    figures = near.as_json()
    assert (figures["searches"], figures["failed"], figures["failed_near_kills"]) == (3, 0, 2)
    assert figures["kills"][0]["last_failure_began_after_s"] == KILL_SECONDS - 1
    assert "ok" in summary(figures)
    for outcome in (Outcome(98, 99, "before"), Outcome(100 + KILL_SECONDS + 1, 200, "after")):
        far = report(outcome, Outcome(1, 2))
        assert len(far.problems) == 1
        assert "failed" in summary(far.as_json())


@pytest.mark.parametrize(
    ("seconds", "slope", "flat"), [(1800, 5, True), (1800, 60, False), (1800, -60, True), (300, 6000, None)]
)
def test_a_process_that_grows_is_wrong(seconds: float, slope: float, flat: bool | None) -> None:
    trend = Trend("query 1", 7, seconds, 200.0, slope)
    assert trend.is_flat is flat
    assert bool(report(Outcome(1, 2), trends=(trend,)).problems) is (flat is False)


def test_memory_that_is_taken_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SAMPLE_SECONDS", 0.02)
    watch = MemoryWatch({"this": os.getpid()})
    held = []
    for _ in range(40):
        held.append(bytearray(os.urandom(2**20)))
        time.sleep(0.02)
    (trend,) = [trend for trend in watch.stop() if trend.role == "this"]
    assert trend.rise_mb > 10
    assert len(held) == 40
