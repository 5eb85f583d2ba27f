from __future__ import annotations

import threading

from workers.activity import Activity


def test_an_idle_process_is_quiet_at_once() -> None:
    assert Activity().await_quiet(0, 0)


def test_patience_ends_while_something_runs() -> None:
    activity = Activity()
    activity.change(+1)
    assert activity.running == 1
    assert not activity.await_quiet(0, 0.01)


def test_patience_ends_before_it_was_quiet_for_long_enough() -> None:
    activity = Activity()
    activity.change(+1)
    activity.change(-1)
    assert not activity.await_quiet(600, 0.01)
    assert activity.await_quiet(0.01, 600)


def test_the_end_of_the_last_task_is_noticed() -> None:
    activity = Activity()
    activity.change(+1)
    activity.change(+1)
    outcome: list[bool] = []
    # So patient that it would hang if the end were missed.
    waiting = threading.Thread(target=lambda: outcome.append(activity.await_quiet(0.01, 600)))
    waiting.start()
    activity.change(-1)
    assert outcome == []
    activity.change(-1)
    waiting.join(20)
    assert outcome == [True]
