"""Connected components, with the scores of the pairs that connect them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class Components:
    """A disjoint-set forest (Tarjan 1975) of `count` members that are alone at first.

    Attributes:
        lowest: For the root of each set the lowest score of the pairs that joined it.
        best: The highest one.
    """

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))
        self._sizes = [1] * count
        self.lowest: dict[int, float] = {}
        self.best: dict[int, float] = {}

    def root(self, member: int) -> int:
        """The member that stands for its set."""
        parent = self._parent
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    def same(self, first: int, second: int) -> bool:
        """Whether both are in one set."""
        return self.root(first) == self.root(second)

    def join(self, first: int, second: int, score: float) -> None:
        """Joins the sets of two members. If they are in one already, nothing changes."""
        larger, smaller = self.root(first), self.root(second)
        if larger == smaller:
            return
        if self._sizes[larger] < self._sizes[smaller]:
            larger, smaller = smaller, larger
        self._parent[smaller] = larger
        self._sizes[larger] += self._sizes[smaller]
        scores = [
            score,
            *(side[root] for side in (self.lowest, self.best) for root in (larger, smaller) if root in side),
        ]
        self.lowest[larger], self.best[larger] = min(scores), max(scores)
        self.lowest.pop(smaller, None)
        self.best.pop(smaller, None)

    def larger_than_one(self) -> Iterator[tuple[int, list[int]]]:
        """The sets of at least two: the root and its members, ascending."""
        members = np.flatnonzero([self._sizes[self.root(member)] > 1 for member in range(len(self._parent))])
        found: dict[int, list[int]] = {}
        for member in members.tolist():
            found.setdefault(self.root(member), []).append(member)
        yield from found.items()
