"""The items of work that this process holds: taken, renewed, and given back whatever becomes of Redis meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import redis

from common.worklist import WorkList
from workers.drain import Unfinished

Item = tuple[str, str]
"""A job, and the batch or the scan of it."""


class Leases:
    """What one process holds of the work of all jobs. May be used from any thread.

    Args:
        work: The work, in Redis.
        name: The name of the worker.
        unfinished: Gives back what is held when the process ends.
        send: Sends the message of an item to whoever takes it.
    """

    def __init__(self, work: WorkList, name: str, unfinished: Unfinished, send: Callable[[str, str], None]) -> None:
        self._work = work
        self._name = name
        self._unfinished = unfinished
        self._send = send
        self._lock = threading.Lock()
        self._held: set[Item] = set()
        self._owed: set[Item] = set()

    def __len__(self) -> int:
        """How many items are held."""
        return len(self._held)

    @contextmanager
    def item(self, job_id: str, item: str) -> Iterator[int]:
        """Holds an item of work, renewing the lease, while the block runs.

        Yields:
            How often the item has been taken by now; 0 if it is not this process's to do. When the block ends the
            item is done with; when it raises, the item is given back.
        """
        key = (job_id, item)
        with self._lock:
            is_mine = key in self._held
        attempt = 0 if is_mine else self._claim(key)
        if not attempt:
            yield 0
            return
        with self._lock:
            self._held.add(key)
        try:
            with self._unfinished.item(lambda: self._give_back(key)):
                yield attempt
        except BaseException:
            self._let_go(key)
            raise
        else:
            self._work.close(job_id, item)
        finally:
            with self._lock:
                self._held.discard(key)

    def send_later(self, job_id: str, items: Iterable[str]) -> None:
        """Has the messages of items sent that could not be sent now."""
        with self._lock:
            self._owed.update((job_id, item) for item in items)

    def look_after(self) -> None:
        """Renews what is held, and gives back what could not be given back before. Called every few seconds.

        Raises:
            redis.RedisError: Redis takes nothing.
        """
        with self._lock:
            held, owed = list(self._held), list(self._owed)
        for job_id, item in held:
            self._work.renew(job_id, item, self._name)
        for key in owed:
            self._give_back(key)
            with self._lock:
                self._owed.discard(key)

    def _claim(self, key: Item) -> int:
        if key in self._owed:
            # Or it would look as if a worker had died of it.
            self._work.release(*key, self._name)
            with self._lock:
                self._owed.discard(key)
        try:
            # Its own lease is no obstacle to a process: one that died may have had the same number.
            return self._work.claim(*key, self._name)
        except redis.RedisError:
            with self._lock:
                self._owed.add(key)  # Redis may have heard it all the same
            raise

    def _let_go(self, key: Item) -> None:
        """Gives an item free for whoever gets its message next; later, where Redis does not hear it now."""
        try:
            self._work.release(*key, self._name)
        except redis.RedisError:
            with self._lock:
                self._owed.add(key)

    def _give_back(self, key: Item) -> None:
        with self._lock:
            self._held.discard(key)  # or it would be renewed
        self._work.release(*key, self._name)
        self._send(*key)
