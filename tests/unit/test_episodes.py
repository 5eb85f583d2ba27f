from __future__ import annotations

import logging
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.episodes import Episodes

logger = logging.getLogger("tests.episodes")


@pytest.fixture
def episodes(caplog: pytest.LogCaptureFixture) -> Episodes:
    caplog.set_level(logging.INFO, logger.name)
    return Episodes(logger)


def test_a_trouble_is_told_at_its_begin_and_at_its_end(episodes: Episodes, caplog: pytest.LogCaptureFixture) -> None:
    episodes.note("Redis", None)
    for _ in range(3):
        episodes.note("Redis", "it is full")
    for _ in range(3):
        episodes.note("Redis", None)
    begin, end = caplog.messages
    assert begin == "Redis: it is full"
    assert re.fullmatch(r"Redis: well again, after \d+ s", end)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    episodes.note("Redis", "it is full")
    assert len(caplog.messages) == 3


def test_another_kind_of_trouble_is_told_and_the_same_one_is_not(
    episodes: Episodes, caplog: pytest.LogCaptureFixture
) -> None:
    episodes.note("Redis", "away (attempt 1)", kind="away")
    episodes.note("Redis", "away (attempt 2)", kind="away")
    episodes.note("the store", "no room")
    episodes.note("Redis", "full", kind="full")
    episodes.note("the store", None)
    assert caplog.messages[:3] == ["Redis: away (attempt 1)", "the store: no room", "Redis: full"]
    assert caplog.messages[3].startswith("the store: well again")


def test_only_what_nobody_expects_has_a_traceback(episodes: Episodes, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("a fault")
    except ValueError as error:
        episodes.note("a", "expected")
        episodes.note("b", "not expected", error=error)
    assert "Traceback" not in caplog.text.partition("b: not expected")[0]
    assert "ValueError: a fault" in caplog.text


def test_many_threads_tell_one_trouble_once(episodes: Episodes, caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: episodes.note("Redis", "away"), range(200)))
        list(pool.map(lambda _: episodes.note("Redis", None), range(200)))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_what_comes_and_goes_is_one_trouble(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, logger.name)
    now = 100.0
    monkeypatch.setattr("common.episodes.time.monotonic", lambda: now)
    episodes = Episodes(logger, calm_seconds=10)
    for now in (100.0, 104.0, 108.0, 112.0):
        episodes.note("Redis", "full" if now in (100.0, 108.0) else None)
    assert caplog.messages == ["Redis: full"]
    for now in (121.0, 122.0, 124.0):  # noqa: B007 - the clock
        episodes.note("Redis", None)
    assert caplog.messages == ["Redis: full", "Redis: well again, after 12 s"]
