"""The fault tests of `tests.chaos` in short: the long ones are `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import Plan, Subject, prepare, run


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return prepare(tmp_path_factory.mktemp("subject"), None, 150, real=False)


def test_the_store_is_right_whatever_was_killed_meanwhile(subject: Subject, tmp_path: Path) -> None:
    plan = Plan(kills=5, redis_kills=2, disk_faults=False, pause=(0.5, 1.5))
    assert run(tmp_path, subject, seed=5, plan=plan) == []
