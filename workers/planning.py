"""Plans an index job: finds what is to be done and cuts it into batches.

The lists of files lie in the data folder, not in Redis: a message is only the name of a batch, so a million files
cost Redis next to nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import LibraryError
from common.journal import JobJournal
from common.library import Library, Location
from common.messages import FINAL_JOB_STATES, IndexJob
from common.progress import JobBoard
from common.store import FeatureStore, Tombstone
from workers.comparing import Change, FoundFile, Gone, ScanProblem, compare, compare_paths
from workers.plan_folder import PlanFolder
from workers.scanning import scan

logger = logging.getLogger(__name__)

# The first batch of a job goes out after this time even if it is small: nobody should wait for a long scan.
FIRST_BATCH_SECONDS = 2.0
_FLUSH_EVERY = 500


class _PlanEnded(Exception):
    """What is being planned no longer counts."""


@dataclass
class _Tally:
    counts: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    changes: int = 0

    def add(self, **counts: int) -> None:
        self.changes += 1
        for name, value in counts.items():
            self.counts[name] = self.counts.get(name, 0) + value


class Planner:
    """Plans one job: scans its folder, enqueues its batches, publishes the tombstones.

    Args:
        board: The job's state.
        store: The feature store.
        library: The library as this host mounts it.
        data_dir: Where the plan's files go.
        enqueue: Sends the batch of a name to the bulk workers.
    """

    def __init__(
        self,
        *,
        board: JobBoard,
        store: FeatureStore,
        library: Library,
        data_dir: Path,
        enqueue: Callable[[str, str], None],
    ) -> None:
        self._board = board
        self._store = store
        self._library = library
        self._data_dir = data_dir
        self._enqueue = enqueue

    def plan(self, job_id: str, batch_size: int) -> bool:
        """Plans the job anew; harmless to repeat. Returns whether there was nothing to embed, so it has ended.

        A job that has ended, for instance because it was cancelled before its turn, stays as it is; and the planning
        stops when the job is cancelled or another delivery of the scan starts a newer plan.

        Raises:
            LibraryError: The folder cannot be scanned, or is empty although images of it are indexed.
        """
        job = self._board.get(job_id)
        if job.state in FINAL_JOB_STATES:
            return False
        try:
            return self._plan(job, batch_size)
        except _PlanEnded:
            logger.info("the scan of job %s stops: the job was cancelled or is scanned anew", job_id)
            return False

    def _plan(self, job: IndexJob, batch_size: int) -> bool:
        job_id = job.id
        paths, allow_empty = self._board.options(job_id)
        self._note(job, whole_folder=paths is None)
        plan = self._board.start_plan(job_id)
        if plan is None:
            raise _PlanEnded
        sequence = self._board.sequence(job_id, self._store.next_sequence())
        writer = _BatchWriter(self, job_id, plan, batch_size)
        tally = _Tally()
        tombstones: list[Tombstone] = []
        for change in self._changes(job.folder, paths):
            self._take(change, sequence, tally, writer, tombstones)
            if tally.changes >= _FLUSH_EVERY or writer.is_due():
                writer.flush_if_due()
                tally = self._report(job_id, plan, tally)
        writer.finish()
        self._report(job_id, plan, tally)
        found = self._board.get(job_id).found
        if tombstones and found == 0 and paths is None and not allow_empty:
            raise LibraryError(
                f"{job.folder} holds no pictures, but {len(tombstones)} of it are indexed. Is the disk mounted? "
                "Nothing was removed. If they are to go, say so: imagesearch index --allow-empty, or "
                '"allow_empty": true in the API.'
            )
        self._bury(job_id, plan, tombstones)
        return self._board.finish_scan(job_id, plan)

    def _note(self, job: IndexJob, *, whole_folder: bool) -> None:
        journal = JobJournal(self._data_dir)
        journal.begin(job)
        if whole_folder:
            journal.supersede(job.folder, self._board.is_known)

    def _changes(self, folder: str, paths: list[str] | None) -> Iterator[Change]:
        if paths is not None:
            return compare_paths(self._library, self._store, paths)
        location = Location.parse(folder)
        return compare(scan(self._library, location), self._store.catalog.below(location.public))

    def _take(
        self, change: Change, sequence: int, tally: _Tally, writer: _BatchWriter, tombstones: list[Tombstone]
    ) -> None:
        if isinstance(change, Gone):
            tombstones.append(Tombstone(change.entry.path, sequence))
        elif isinstance(change, ScanProblem):
            tally.add(found=1, total=1, failed=1)
            tally.errors[change.public_path] = change.error
        elif isinstance(change, FoundFile):
            tally.add(found=1, total=1)
            writer.add(change.public_path)
        elif change.entry.record.sequence == sequence:
            # Embedded by this very job before its scan was repeated.
            tally.add(found=1, total=1, done=1)
        else:
            tally.add(found=1, unchanged=1)

    def _report(self, job_id: str, plan: int, tally: _Tally) -> _Tally:
        if not self._board.add(job_id, tally.counts, tally.errors, plan=plan):
            raise _PlanEnded
        return _Tally()

    def _bury(self, job_id: str, plan: int, tombstones: list[Tombstone]) -> None:
        if tombstones:
            self._store.publish(f"{job_id}-{plan:03}-removed", precision="none", tombstones=tombstones)
            self._board.add(job_id, {"removed": len(tombstones)}, plan=plan)


class _BatchWriter:
    """Collects files and sends them off in batches."""

    def __init__(self, planner: Planner, job_id: str, plan: int, size: int) -> None:
        self._planner = planner
        self._job_id = job_id
        self._plan = plan
        self._size = size
        self._folder = PlanFolder(planner._data_dir, job_id)
        self._paths: list[str] = []
        self._count = 0
        self._started = time.monotonic()

    def add(self, public_path: str) -> None:
        self._paths.append(public_path)

    def is_due(self) -> bool:
        late = self._count == 0 and time.monotonic() - self._started > FIRST_BATCH_SECONDS
        return len(self._paths) >= self._size or (late and bool(self._paths))

    def flush_if_due(self) -> None:
        if self.is_due():
            self._flush()

    def finish(self) -> None:
        if self._paths:
            self._flush()

    def _flush(self) -> None:
        self._count += 1
        batch = f"{self._plan:03}-{self._count:06}"
        self._folder.write(batch, self._paths)
        self._paths = []
        self._planner._enqueue(self._job_id, batch)
