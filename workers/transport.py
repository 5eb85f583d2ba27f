"""Kombu's transport for Redis, for workers: drops what none of our clients has sent, and outlives a Redis that refuses.

A Redis without memory still hands out what lies in its queues, but takes no note of who has it; one that cannot write
to its disk, or became a replica, hands out nothing. Kombu's own transport ends the worker over each of these. This one
goes on: what it took without a note is lost if it dies before the work is done, which is what leases are for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from queue import Empty
from typing import Any
from weakref import WeakSet

from celery import current_app
from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from common.celery_app import QUERY, QUEUES
from common.redis_client import is_refusal, refusals_ignored
from workers.inbox import argument_counts, problem_of

logger = logging.getLogger(__name__)

# Between attempts to get a message from a Redis that refuses.
_PAUSE_SECONDS = 1.0
# What Redis says to those who wait for a message when it becomes a replica.
_UNBLOCKED = "UNBLOCKED"


def use() -> None:
    """Makes Celery's connections of this process use it. Called before the app is made."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"


class QoS(redis.QoS):  # type: ignore[misc]
    """Notes in Redis which messages are being worked on, as far as Redis takes notes.

    What it cannot note counts all the same: a message that it still took for unfinished would keep the worker from
    taking another one, for ever.

    Searches are not noted: each note would cost them two more trips to Redis, and if the worker died, the message came
    back long after the search was given up.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _in_use.add(self)

    def append(self, message: Any, delivery_tag: str) -> None:
        """Called with each message that was taken from a queue."""
        if _is_search(message):
            virtual.QoS.append(self, message, delivery_tag)
            return
        try:
            super().append(message, delivery_tag)
        except RedisError:
            # It is in no queue any more, so it is worked on; whoever asks for more notices if the connection is lost.
            virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Called when a message is done with."""
        try:
            if not self._is_search(delivery_tag):
                with refusals_ignored():
                    super().ack(delivery_tag)
        finally:
            virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Called when a message is not done with. Where that cannot be noted it is handed out again after minutes."""
        try:
            with refusals_ignored():
                super().reject(delivery_tag, requeue=requeue)
        finally:
            virtual.QoS.ack(self, delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Puts a message back into its queue."""
        if not self._is_search(tag):
            super().restore_by_tag(tag, client, leftmost)
            return
        message = self._delivered[tag]
        exchange, routing_key = (message.delivery_info[name] for name in ("exchange", "routing_key"))
        with self.pipe_or_acquire(client=client) as pipe:
            self.channel._do_restore_message(message._raw, exchange, routing_key, pipe, leftmost)
            pipe.execute()

    def put_back_searches(self) -> int:
        """Puts the searches back that were taken and not begun. Returns how many."""
        tags = [tag for tag in list(self._delivered) if tag not in self._dirty and self._is_search(tag)]
        for tag in tags:
            self.restore_by_tag(tag)
        return len(tags)

    def _is_search(self, tag: str) -> bool:
        """Whether a message that is not done with yet is for a search. Called from many threads."""
        message = self._delivered.get(tag)
        return message is not None and _is_search(message)

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Called now and then to hand out again what has been worked on for too long."""
        with refusals_ignored():
            super().restore_visible(*args, **options)

    def restore_unacked(self, client: Any = None) -> None:
        """Called at the end to put back what is not done."""
        with refusals_ignored():
            super().restore_unacked(client)

    @contextmanager
    def pipe_or_acquire(self, pipe: Pipeline | None = None, client: Any = None) -> Iterator[Pipeline]:
        """A pipeline; no transaction, in which a Redis without memory refuses even to delete."""
        if pipe is not None:
            yield pipe
        else:
            with self.channel.conn_or_acquire(client) as connection:
                yield connection.pipeline(transaction=False)


_in_use: WeakSet[QoS] = WeakSet()


def put_back() -> int:
    """Puts what this process has taken for its threads, and none of them has begun, back into the queue.

    Called when the process is cut off, from another thread than the one that takes messages.
    """
    count = 0
    for qos in list(_in_use):
        with suppress(Exception):  # without Redis nothing can be put back, and the process must end nevertheless
            count += qos.put_back_searches()
    return count


@cache
def _tasks() -> dict[str, int]:
    """How many arguments each task takes. Called when messages come, and all tasks are known."""
    return argument_counts({name: task.run for name, task in current_app.tasks.items()})


def _is_search(message: Any) -> bool:
    return bool(message.delivery_info["routing_key"] == QUERY)


class Channel(redis.Channel):  # type: ignore[misc]
    """A channel that outlives what is not even JSON, and refusals."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError) as error:
            logger.warning("dropped a message: %s", str(error)[:200])
            return True
        except ResponseError as error:
            # The thread that reports presence logs it.
            if is_refusal(error):
                time.sleep(_PAUSE_SECONDS)
            elif not str(error).startswith(_UNBLOCKED):
                raise
            raise Empty from error

    def maybe_refresh_binding_expiry(self) -> None:
        """Called every second."""
        with refusals_ignored():
            super().maybe_refresh_binding_expiry()

    def _queue_bind(self, *args: Any) -> None:
        # Already there, but for the very first start.
        with refusals_ignored():
            super()._queue_bind(*args)

    def _size(self, queue: str) -> int:
        # Asked for when a queue is declared, and used by nobody.
        with refusals_ignored():
            return int(super()._size(queue))
        return 0


class Transport(redis.Transport):  # type: ignore[misc]
    """Kombu's transport for Redis, which hands on only messages of ours; those of Flower and the like, too."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        if queue in QUEUES:
            problem = problem_of(message, _tasks())
            if problem is not None:
                logger.warning("dropped a message in the queue %s: %s", queue, problem)
                return
        super()._deliver(message, queue)
