"""Keeps the candidate index of this process in step with the store, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from common.errors import SegmentDamaged
from common.ranking.bases import TWO_STAGES_FROM, BasisFolder, is_outgrown
from common.ranking.basis import Basis
from common.ranking.protocol import CandidateIndex
from common.ranking.two_stage import TwoStageRanker
from common.store.segment import SUFFIX

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# After something failed, such as a disk or a Milvus that is away.
_RETRY_SECONDS = 5.0
# A request may get lost; training itself looks whether it is still needed.
_ASK_AGAIN_SECONDS = 600.0
# While a backlog is encoded, searches profit from what is done; but each time the index is packed anew.
_ANNOUNCE_SECONDS = 2.0

_Files = dict[str, tuple[int, int]]
"""The segments that were added: name to size and time of the file."""


class Indexes(Protocol):
    """Where the indexes of the store's bases are."""

    def open(self, basis: Basis) -> CandidateIndex:
        """The index of a basis, with what was saved of it."""
        ...

    def saved(self, basis_id: str) -> int:
        """How much is saved of an index, in any unit: at a start the fullest one serves first."""
        ...

    def retire(self, basis: Basis) -> None:
        """Deletes what nobody needs of an index that another one has replaced."""
        ...


class IndexKeeper:
    """Adds new segments to the index, forgets those that went, and changes to a new basis when one is published.

    The old index serves until everything has been encoded with the new basis. What goes wrong is logged and tried
    again: meanwhile searches compare exactly what is in no index.

    Args:
        ranker: Is told of the index.
        indexes: Opens the index of a basis.
        request_training: Asks for a new basis. It is published in the store when it is there.
        two_stages_from: A smaller collection needs no basis.
    """

    def __init__(
        self,
        ranker: TwoStageRanker,
        indexes: Indexes,
        *,
        request_training: Callable[[], object],
        two_stages_from: int = TWO_STAGES_FROM,
    ) -> None:
        self._ranker = ranker
        self._store = ranker.store
        self._bases = BasisFolder(self._store.path)
        self._indexes = indexes
        self._request_training = request_training
        self._two_stages_from = two_stages_from
        self._serving: tuple[Basis, CandidateIndex, _Files] | None = None
        self._asked_at: float | None = None
        self._announced_at = time.monotonic()
        self._stopping = threading.Event()
        self._first_round = threading.Event()
        self._thread = threading.Thread(target=self._run, name="candidates", daemon=True)

    def start(self, wait_seconds: float = 0.0) -> None:
        """Starts the thread. Waits for the first round, at most so long: to read what was saved takes a second."""
        self._thread.start()
        self._first_round.wait(wait_seconds)

    def stop(self) -> None:
        """Ends the thread after what it is doing."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def step(self) -> None:
        """One round: brings everything up to date."""
        self._store.refresh()
        ids = self._bases.ids()
        if self._serving is None:
            self._take_first(ids)
        elif ids and ids[0] > self._serving[0].id:
            self._change_to(ids[0])
        self._keep_up()
        self._ask_for_training(has_basis=bool(ids))

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = POLL_SECONDS
            try:
                self.step()
            except Exception:
                logger.warning("keeping the candidates up to date failed, next try in a moment", exc_info=True)
                pause = _RETRY_SECONDS
            self._first_round.set()
            self._stopping.wait(pause)

    def _take_first(self, ids: list[str]) -> None:
        """Starts with the basis whose index is the fullest, the newest of equals. The newest one follows."""
        for basis_id in sorted(ids, key=self._indexes.saved, reverse=True):
            basis = self._bases.load(basis_id)
            if basis is not None:
                self._serving = basis, self._indexes.open(basis), {}
                return

    def _change_to(self, basis_id: str) -> None:
        basis = self._bases.load(basis_id)
        if basis is None or self._serving is None:
            return
        index = self._indexes.open(basis)
        files: _Files = {}
        while self._add_next(index, files):
            self._keep_up()  # the old one serves meanwhile
            if self._stopping.is_set():
                return
        index.snapshot()
        old = self._serving[0]
        self._serving = basis, index, files
        self._ranker.use(index)
        logger.info("candidates come from the basis %s now, trained on %d images", basis.id, basis.images)
        self._indexes.retire(old)

    def _keep_up(self) -> None:
        """Makes the index in use know the segments that there are."""
        if self._serving is None:
            return
        _, index, files = self._serving
        is_changed = self._forget_gone(index, files)
        while not self._stopping.is_set() and self._add_next(index, files):
            is_changed = True
            if time.monotonic() - self._announced_at > _ANNOUNCE_SECONDS:
                self._announce(index)
        if is_changed:
            index.snapshot()
            self._announce(index)

    def _announce(self, index: CandidateIndex) -> None:
        self._ranker.use(index)
        self._announced_at = time.monotonic()

    def _add_next(self, index: CandidateIndex, files: _Files) -> bool:
        """Adds one segment that an index does not know, the smallest first. Returns whether there was one."""
        self._store.refresh()
        missing = [row for row in self._store.catalog.segments() if row.name not in files]
        for row in sorted(missing, key=lambda row: row.count):
            try:
                index.add(self._store.segment(row.name))
            except FileNotFoundError:
                continue  # compacted away since
            except SegmentDamaged as error:
                logger.warning("%s; it is compared exactly, as far as it can be read", error)
            files[row.name] = (row.size, row.mtime_ns)
            return True
        return False

    def _forget_gone(self, index: CandidateIndex, files: _Files) -> bool:
        """Removes segments whose file is gone or was replaced. Returns whether there were any.

        The folder decides and not the catalog, because other hosts may share the index and be ahead of this one.
        """
        known = {row.name: (row.size, row.mtime_ns) for row in self._store.catalog.segments()}
        replaced = {name for name, status in files.items() if name in known and known[name] != status}
        unknown = files.keys() - known.keys()
        gone = {name for name in unknown if not (self._store.segments_path / f"{name}{SUFFIX}").exists()}
        for name in gone | replaced:
            index.remove(name)
            del files[name]
        return bool(gone or replaced)

    def _ask_for_training(self, *, has_basis: bool) -> None:
        basis = self._serving[0] if self._serving is not None and has_basis else None
        if not is_outgrown(len(self._store), basis, two_stages_from=self._two_stages_from):
            return
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at > _ASK_AGAIN_SECONDS:
            self._request_training()
            self._asked_at = now
