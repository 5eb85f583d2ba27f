"""The candidate indexes that are tried against each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.ranking.basis import Basis
from common.ranking.candidates import FaissCandidates
from common.ranking.protocol import CandidateIndex, Query, Rows
from common.store import Segment
from tests.unit.helpers import SPEC


class ExactCandidates:
    """All features in memory, compared one by one."""

    def __init__(self) -> None:
        self._segments: dict[str, tuple[list[str], npt.NDArray[np.float64]]] = {}

    def add(self, segment: Segment) -> None:
        paths = [row.public_path for row in segment.records()]
        self._segments[segment.name] = (paths, segment.features.astype(np.float64))

    def remove(self, name: str) -> None:
        self._segments.pop(name, None)

    def names(self) -> set[str]:
        return set(self._segments)

    def count(self) -> int:
        return sum(len(paths) for paths, _ in self._segments.values())

    def search(self, query: Query, k: int, *, folder: str | None = None) -> dict[str, Rows]:
        scored = [
            (float(feature @ query), name, row)
            for name, (paths, features) in list(self._segments.items())
            for row, (path, feature) in enumerate(zip(paths, features, strict=True))
            if folder is None or path.startswith(f"{folder}/")
        ]
        return by_segment((name, row) for _, name, row in sorted(scored, reverse=True)[:k])

    def snapshot(self) -> None:
        """Nothing is ever saved."""


class Backend(ABC):
    """Opens an index as a worker does, and as it does after a restart."""

    def __init__(self, folder: Path, basis: Basis) -> None:
        self.folder, self.basis = folder, basis

    @abstractmethod
    def open(self) -> CandidateIndex: ...

    def stop(self) -> None:  # noqa: B027 - most have nothing to do
        """What the end of the process would do."""


class ExactBackend(Backend):
    """Its index is never ended."""

    def __init__(self, folder: Path, basis: Basis) -> None:
        super().__init__(folder, basis)
        self._index = ExactCandidates()

    def open(self) -> CandidateIndex:
        return self._index


class MilvusBackend(Backend):
    def open(self) -> CandidateIndex:
        from common.ranking.milvus import MilvusCandidates

        return MilvusCandidates(str(self.folder / "milvus.db"), SPEC.fingerprint, self.basis)

    def stop(self) -> None:
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(str(self.folder / "milvus.db"))


class FaissBackend(Backend):
    def open(self) -> CandidateIndex:
        return FaissCandidates(self.basis, self.folder / "candidates")


def by_segment(places: Iterator[tuple[str, int]]) -> dict[str, Rows]:
    found: dict[str, list[int]] = {}
    for name, row in places:
        found.setdefault(name, []).append(row)
    return {name: np.array(sorted(rows), np.int64) for name, rows in found.items()}
