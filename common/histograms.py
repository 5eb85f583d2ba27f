"""Histograms that many processes add to, as integers in one hash of Redis."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.client import Pipeline

_ALL = "+Inf"
# KEYS: the hash. ARGV: field, increment, field, increment… One command, because a search has some twenty fields, and
# each command of a pipeline costs its client more than Redis.
_ADD = "for i = 1, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end"


@dataclass(frozen=True)
class Histogram:
    """How many took at most each bound, and the sum in seconds."""

    buckets: dict[str, int]
    seconds: float

    @property
    def count(self) -> int:
        """All that were measured."""
        return self.buckets[_ALL]


def add(pipe: Pipeline, name: str, increments: Mapping[str, int]) -> None:
    """Adds to fields of a hash, as part of a pipeline.

    Args:
        pipe: The pipeline.
        name: The key of the hash.
        increments: What to add to each field.
    """
    if increments:
        pipe.eval(_ADD, 1, name, *(part for item in increments.items() for part in item))


class Scale:
    """The bounds of the buckets of several histograms, and their fields in a hash.

    Args:
        bounds: Upper bounds in seconds, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._names = (*(f"{bound:g}" for bound in bounds), _ALL)

    def increments(self, name: str, seconds: float) -> dict[str, int]:
        """What one measurement adds to the hash.

        Args:
            name: The histogram.
            seconds: What was measured.
        """
        return {
            f"{name}:{self._names[bisect_left(self._bounds, seconds)]}": 1,
            # Whole microseconds: an integer does not drift, however many are added.
            f"{name}:sum": round(seconds * 1e6),
        }

    def histogram(self, name: str, values: Mapping[str, int]) -> Histogram:
        """A histogram from the hash; all zero if nothing was ever added."""
        buckets: dict[str, int] = {}
        below = 0
        for bound in self._names:
            below += values.get(f"{name}:{bound}", 0)
            buckets[bound] = below
        return Histogram(buckets, values.get(f"{name}:sum", 0) / 1e6)
