"""Bounds what is in flight at a time, by weight: memory stays bounded however many threads there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets light work pass at once; heavy work waits until it fits the budget.

    What is heavier than the whole budget passes when no other heavy work is in flight. No order is kept: a heavy
    weight may be overtaken by less heavy ones for as long as they keep coming.

    Args:
        budget: The sum of the heavy weights that may be in flight.
        light: The greatest weight that does not count.
    """

    def __init__(self, budget: int, *, light: int) -> None:
        self._budget = budget
        self._light = light
        self._in_flight = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, weight: int) -> Iterator[None]:
        """Counts the weight as in flight while the block runs, after waiting until it fits."""
        if weight <= self._light:
            yield
            return
        weight = min(weight, self._budget)
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight + weight <= self._budget)
            self._in_flight += weight
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= weight
                self._changed.notify_all()
