"""What is wrong with a worker process at present, as it reports it itself."""

from __future__ import annotations

import logging
from typing import Any

from common.celery_app import BULK, QUERY
from common.messages import SystemProblem
from common.problems import ProblemLog
from common.settings import Settings
from common.storage import StorageWatch
from workers.activity import Activity

logger = logging.getLogger(__name__)

# A bulk worker says every second how far it is; only a pass of the network on a slow host takes longer.
STUCK_BATCH_SECONDS = 300.0


class Health:
    """Says what hinders a worker, and logs when that begins and ends.

    Args:
        name: The worker's name among all.
        queues: What it serves.
        activity: What it does.
        storage: Where it writes to.
        settings: The settings.
    """

    def __init__(
        self, name: str, queues: list[str], activity: Activity, storage: StorageWatch, settings: Settings
    ) -> None:
        self._name = name
        self._activity = activity
        # A query worker writes nothing that is missed.
        self._storage = None if QUERY in queues else storage
        self._limit: float | None = None  # a search for near-duplicates may take hours without a sign of life
        if QUERY in queues:
            self._limit = float(settings.search_timeout_seconds)
        elif BULK in queues:
            self._limit = STUCK_BATCH_SECONDS
        self._log = ProblemLog(logger)

    def facts(self) -> dict[str, Any]:
        """Fields of `WorkerInfo`: the problems, and the state if the worker hangs."""
        facts: dict[str, Any] = {}
        found = []
        if self._limit is not None and self._activity.stalled_seconds > self._limit:
            # Without the exact time: a text that stays the same is no news every two seconds.
            how = f"has not got on for over {self._limit:.0f} s"
            facts |= {"state": "stuck", "detail": f"It {how}: restart it, if that lasts."}
            detail = f"The worker {self._name} {how}: restart it, if that lasts."
            found.append(SystemProblem(kind="worker-stuck", detail=detail))
        if self._storage is not None and (problem := self._storage.problem()) is not None:
            found.append(problem)
        self._log.update(found)
        return {**facts, "problems": found}
