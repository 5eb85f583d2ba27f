from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.gate import Gate

SECONDS = 10.0
A_MOMENT = 0.05


class Passage:
    """A thread that wants to pass a gate, and stays inside until it is told to leave."""

    def __init__(self, gate: Gate, weight: int) -> None:
        self.inside, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._pass, args=(gate, weight))
        self._thread.start()

    def _pass(self, gate: Gate, weight: int) -> None:
        with gate.hold(weight):
            self.inside.set()
            self._leave.wait(SECONDS)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(SECONDS)


def test_heavy_work_waits_until_it_fits() -> None:
    gate = Gate(100, light=10)
    first, second = Passage(gate, 60), Passage(gate, 40)
    assert first.inside.wait(SECONDS)
    assert second.inside.wait(SECONDS)
    third = Passage(gate, 50)
    assert not third.inside.wait(A_MOMENT)
    second.leave()
    assert not third.inside.wait(A_MOMENT), "60 and 50 are more than 100"
    first.leave()
    assert third.inside.wait(SECONDS)
    third.leave()


def test_light_work_passes_a_full_gate() -> None:
    gate = Gate(100, light=10)
    heavy = Passage(gate, 100)
    assert heavy.inside.wait(SECONDS)
    light = Passage(gate, 10)
    assert light.inside.wait(SECONDS)
    light.leave()
    heavy.leave()


def test_what_is_heavier_than_the_budget_passes_alone() -> None:
    gate = Gate(100, light=10)
    giant = Passage(gate, 1000)
    assert giant.inside.wait(SECONDS)
    other = Passage(gate, 11)
    assert not other.inside.wait(A_MOMENT)
    giant.leave()
    assert other.inside.wait(SECONDS)
    other.leave()


def test_an_error_inside_gives_the_weight_back() -> None:
    gate = Gate(100, light=10)
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), gate.hold(100):
            raise ValueError("damaged")
    with gate.hold(100):
        pass


def test_the_budget_holds_whatever_comes() -> None:
    gate, lock, in_flight, most = Gate(100, light=10), threading.Lock(), 0, 0
    chance = random.Random(5)

    def work(weight: int) -> None:
        nonlocal in_flight, most
        with gate.hold(weight):
            with lock:
                in_flight += weight
                most = max(most, in_flight)
            time.sleep(0.001)
            with lock:
                in_flight -= weight

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [chance.randrange(11, 101) for _ in range(200)]))
    assert 60 < most <= 100
