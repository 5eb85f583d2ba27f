"""Which workers are alive: each one reports every few seconds, and its record expires by itself.

Celery's `inspect` waits a second for an answer and gets none from a busy process; a record with an expiry is
read at once, whatever the worker is doing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, cast

import redis

from common.celery_app import QUEUES
from common.cores import core_pools
from common.log_context import header_of
from common.messages import QueueLengths, WorkerInfo
from common.redis_client import is_refusal, key, refusals_ignored
from common.stopwatch import milliseconds_since

REPORT_SECONDS = 2.0
EXPIRY_SECONDS = 7
JOIN_SECONDS = 3


def live_workers(client: redis.Redis) -> list[WorkerInfo]:
    """The workers that reported within the last seconds, by name."""
    keys = list(client.scan_iter(match=key("worker", "*"), count=500))
    values = cast("list[bytes | None]", client.mget(keys)) if keys else []
    workers = [WorkerInfo.model_validate_json(value) for value in values if value]
    return sorted(workers, key=lambda worker: worker.name)


def process_is_gone(worker: WorkerInfo) -> bool:
    """Whether a worker of this host has died, although its record has not expired yet."""
    if worker.host != socket.gethostname():
        return False
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def queue_lengths(client: redis.Redis) -> QueueLengths:
    """How many tasks wait in each queue (those that a worker already holds are not counted)."""
    with client.pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.llen(queue)
        lengths = pipe.execute()
    return QueueLengths(**dict(zip(QUEUES, lengths, strict=True)))


def oldest_waiting(client: redis.Redis) -> dict[str, float]:
    """By queue, how long the task that is next has been waiting, in seconds; 0 where none waits."""
    with client.pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.lindex(queue, -1)
        messages = pipe.execute()
    return {queue: _age(message) for queue, message in zip(QUEUES, messages, strict=True)}


def _age(message: bytes | None) -> float:
    try:
        sent_at = float(header_of(json.loads(message or b"{}").get("headers"))["sent_at"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return 0.0  # nothing waits, or something that none of our clients has sent
    return milliseconds_since(sent_at) / 1000


class PresenceReporter:
    """Reports this process as a worker, from a thread of its own, until `stop`.

    Args:
        client: Redis.
        queues: The queues this process serves.
        facts: Gives the changing fields of `WorkerInfo` (state, model, …) at each report.
        tick: Called after each report, in the same thread, with the error that it ended with.

    Attributes:
        name: Its name among all workers.
        queues: As given.
        started_at: When it was made, in `time.monotonic()`.
    """

    def __init__(
        self,
        client: redis.Redis,
        queues: list[str],
        facts: Callable[[], dict[str, Any]],
        tick: Callable[[redis.RedisError | None], None] | None = None,
    ) -> None:
        self._redis = client
        self.queues = queues
        self._facts = facts
        self._tick = tick
        self._cpu_pools = [pool.name for pool in core_pools()]
        self._stop = threading.Event()
        self.started_at = time.monotonic()
        self._since = datetime.now(timezone.utc)
        self.name = f"{'+'.join(queues)}@{socket.gethostname()}:{os.getpid()}"
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Starts reporting."""
        self._thread.start()

    def stop(self) -> None:
        """Takes the record away, so that the worker is gone from the status at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)  # a report under way would write the record again
        with suppress(redis.RedisError):  # else it expires by itself
            self._redis.delete(key("worker", self.name))

    def report(self) -> None:
        """Writes one record. Where Redis has no memory for it the one before stays, for as long as it is renewed.

        Raises:
            redis.RedisError: Redis is away, or takes nothing.
        """
        info = WorkerInfo(
            name=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self.queues,
            cpu_pools=self._cpu_pools,
            started_at=self._since,
            last_seen=datetime.now(timezone.utc),
            **self._facts(),
        )
        name = key("worker", self.name)
        try:
            self._redis.set(name, info.model_dump_json(), ex=EXPIRY_SECONDS)
        except redis.RedisError as error:
            if is_refusal(error):
                with refusals_ignored():  # one that cannot write refuses this, too
                    self._redis.expire(name, EXPIRY_SECONDS)
            raise

    def _run(self) -> None:
        while not self._stop.is_set():
            problem: redis.RedisError | None = None
            try:
                self.report()
            except redis.RedisError as error:  # the next report tries again
                problem = error
            if self._tick is not None:
                self._tick(problem)
            self._stop.wait(REPORT_SECONDS)
