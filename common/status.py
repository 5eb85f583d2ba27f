"""The whole system at a glance, as the API and the command line report it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import __version__
from common.celery_app import QUERY
from common.jobs import Client
from common.messages import Status, WorkerInfo
from common.problems import system_problems

if TYPE_CHECKING:
    from common.store import FeatureStore


def system_status(client: Client, store: FeatureStore | None) -> Status:
    """What is indexed, with which model, and who works.

    Args:
        client: Asked for workers and queues.
        store: The store in use, up to date; None before any worker has loaded the model.

    Raises:
        RedisUnavailable: Redis is away.
    """
    workers = client.workers()
    # Not `if store`: an empty store has the length 0, and a model all the same.
    spec = store.spec if store is not None else None
    segments = store.catalog.segments() if store is not None else []
    return Status(
        images=len(store) if store is not None else 0,
        segments=len(segments),
        model=spec.name if spec else None,
        trained=spec.trained if spec else None,
        precision=_precision(workers) or (segments[-1].precision if segments else None),
        workers=workers,
        queues=client.queues(),
        folders=client.library.names,
        recall_at_10=client.recall().recall,
        problems=system_problems(client, store, workers),
        version=__version__,
    )


def _precision(workers: list[WorkerInfo]) -> str | None:
    # Of the workers that answer queries, because theirs decides how a query compares with what is stored.
    ordered = sorted(workers, key=lambda worker: QUERY not in worker.queues)
    return next((worker.precision for worker in ordered if worker.precision), None)
