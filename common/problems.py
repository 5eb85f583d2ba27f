"""What is wrong with the system at present, in plain words: for the pages, `/readyz`, `imagesearch status` and the log.

Each problem is read off what is there now, so it goes by itself when its cause has gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from common.celery_app import QUERY
from common.episodes import Episodes
from common.errors import RedisRefuses, kind_of
from common.messages import SystemProblem, WorkerInfo
from common.storage import storage_problem

if TYPE_CHECKING:
    from common.jobs import Client
    from common.store import FeatureStore

# A worker that is there takes a search within milliseconds.
SEARCHES_WAIT_SECONDS = 15.0
_NAMED = 3


def system_problems(client: Client, store: FeatureStore | None, workers: Iterable[WorkerInfo]) -> list[SystemProblem]:
    """Everything that is wrong, each kind once.

    Args:
        client: Asked for Redis and the queues.
        store: The store in use; None before any worker has loaded the model.
        workers: Those that are alive.

    Raises:
        RedisUnavailable: Redis is away.
    """
    found = [*_of_redis(client), *_of_workers(client, list(workers)), *local_problems(client, store)]
    return list({problem.kind: problem for problem in reversed(found)}.values())[::-1]


def local_problems(client: Client, store: FeatureStore | None) -> Iterator[SystemProblem]:
    """What can be seen without Redis: the disk and the store."""
    # Whether one may write there matters to the workers, who say so themselves; the web tier's mount may be read-only.
    folder = client.settings.data_dir
    problem = storage_problem(folder, writes=False) if folder.exists() else None  # the first worker makes it
    if problem is not None:
        yield problem
    if store is None:
        return
    if store.behind is not None:
        detail = f"{store.behind} Searches go on with what is known; what was indexed since is missing."
        yield SystemProblem(kind="store-behind", detail=detail)
    if store.damaged:
        yield SystemProblem(
            kind="segments-damaged",
            detail=f"{_named(store.damaged)} damaged, and the pictures in it are missing from the results: "
            "`imagesearch verify` says what is wrong. Move the file away and index again; "
            "only its pictures are embedded anew.",
        )
    if store.unreadable:
        yield SystemProblem(
            kind="segments-unreadable",
            detail=f"{_named(store.unreadable)} not readable at present: {next(iter(store.unreadable.values()))}",
        )


def _named(segments: Iterable[str]) -> str:
    names = sorted(segments)
    if len(names) == 1:
        return f"Segment {names[0]}.h5 is"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} segments ({', '.join(names[:_NAMED])}{more}) are"


def _of_redis(client: Client) -> Iterator[SystemProblem]:
    try:
        client.check_redis()
    except RedisRefuses as error:
        yield SystemProblem(kind=kind_of(error), detail=str(error))


def _of_workers(client: Client, workers: list[WorkerInfo]) -> Iterator[SystemProblem]:
    for worker in workers:
        yield from worker.problems
    idle = [worker.state == "idle" for worker in workers if QUERY in worker.queues]
    # One that is busy explains why searches wait, and one that hangs has said so itself.
    if idle and all(idle) and client.oldest_waiting()[QUERY] > SEARCHES_WAIT_SECONDS:
        yield SystemProblem(
            kind="searches-not-taken",
            detail=f"Searches wait for over {SEARCHES_WAIT_SECONDS:.0f} s, although the query worker has nothing to "
            "do: restart it.",
        )


class ProblemLog:
    """Logs each problem once when it begins, and once when it is over. May be used from any thread.

    Args:
        logger: Gets the lines.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._episodes = Episodes(logger)
        self._going_on: frozenset[str] = frozenset()

    def update(self, found: Iterable[SystemProblem]) -> None:
        """Tells it all that is wrong now."""
        now = {problem.kind: problem.detail for problem in found}
        for kind in self._going_on | now.keys():
            self._episodes.note(kind, now.get(kind), kind=kind)
        self._going_on = frozenset(now)
