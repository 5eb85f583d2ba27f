"""What the views work with, made once for each application."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from flask import current_app

from common.errors import ServiceUnavailable, kind_of
from common.jobs import Client
from common.messages import Status, SystemProblem, WorkerInfo
from common.picture_headers import HeaderCheck
from common.problems import ProblemLog
from common.settings import Settings
from common.status import system_status
from web.collection import Collection
from web.fetching import Fetcher

logger = logging.getLogger(__name__)

EXTENSION = "imagesearch"

# A request that waits holds a thread of the server. The rest stay free for everybody else.
MAX_WAITING_REQUESTS = 24
SHORT_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Services:
    """The collaborators of the views."""

    settings: Settings
    client: Client
    collection: Collection
    headers: HeaderCheck
    fetcher: Fetcher
    _log: ProblemLog = field(default_factory=lambda: ProblemLog(logger))
    _waiting: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_WAITING_REQUESTS)
    )

    @classmethod
    def make(cls, settings: Settings) -> Services:
        """Makes them from the settings. Nothing is connected or opened before the first use."""
        return cls(
            settings,
            Client(settings),
            Collection(settings),
            HeaderCheck.for_uploads(settings),
            Fetcher(settings.max_upload_bytes),
        )

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[float]:
        """How long a request may wait now: `seconds`, or less while too many others wait already."""
        acquired = seconds > 0 and self._waiting.acquire(blocking=False)
        try:
            yield seconds if acquired else min(seconds, SHORT_WAIT_SECONDS)
        finally:
            if acquired:
                self._waiting.release()

    def status(self) -> Status:
        """The whole system at a glance.

        Raises:
            RedisUnavailable: Redis is away.
            StoreUnreadable: The data folder cannot be read.
        """
        try:
            status = system_status(self.client, self.collection.store())
        except ServiceUnavailable as error:
            self._log.update([SystemProblem(kind=kind_of(error), detail=str(error))])
            raise
        self._log.update(status.problems)
        return status


def services() -> Services:
    """The services of the current application."""
    return cast(Services, current_app.extensions[EXTENSION])


def ready_workers(workers: list[WorkerInfo], queue: str = "query") -> list[WorkerInfo]:
    """Those that can do what comes in a queue now; by default, answer searches."""
    return [worker for worker in workers if queue in worker.queues and worker.state in {"idle", "busy"}]
