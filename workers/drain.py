"""Ends a worker in order: it takes nothing more, finishes what it can, and hands the rest to the other workers.

SIGTERM reaches the main process, where Celery stops taking messages and waits for the tasks that run. The processes
that it has forked learn of it by a pipe. What has not ended some seconds later is given back and cut off: all work may
be cut off at any moment, so nothing has to cooperate, and what hangs ends, too.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from common.celery_app import QUERY

logger = logging.getLogger(__name__)

# A search takes less than a second. Batches are made for 15 s; with one pass of the network and a slow disk this stays
# below the 30 s that supervisors wait by default.
QUERY_SECONDS = 8.0
OTHER_SECONDS = 22.0


def seconds_to_end(queues: list[str]) -> float:
    """How long a worker of these queues may go on with what it has taken."""
    return QUERY_SECONDS if QUERY in queues else OTHER_SECONDS


class StopLine:
    """Tells the processes of a worker that it ends. Made by the main process before it forks."""

    def __init__(self) -> None:
        self._ear, self._mouth = os.pipe()
        self._is_open = True

    def pull(self) -> None:
        """Tells all of them. Called in a signal handler, perhaps again and again."""
        if self._is_open:
            self._is_open = False
            os.close(self._mouth)

    def leave_to_parent(self) -> None:
        """Called first in a forked process: the line ends with the main process alone, also when that is killed."""
        self.pull()

    def wait(self) -> None:
        """Returns when the worker ends."""
        os.read(self._ear, 1)


class Unfinished:
    """What this process has taken and not finished. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[object, Callable[[], None]] = {}

    @contextmanager
    def item(self, give_back: Callable[[], None]) -> Iterator[None]:
        """Counts a piece of work as unfinished while the block runs.

        Args:
            give_back: Has another worker do it. Called at most once, while the block may still run.
        """
        mark = object()
        with self._lock:
            self._items[mark] = give_back
        try:
            yield
        finally:
            with self._lock:
                self._items.pop(mark, None)

    def give_back(self) -> int:
        """Gives everything to other workers. Returns how much it was."""
        with self._lock:
            items, self._items = list(self._items.values()), {}
        for give_back in items:
            # Without Redis nothing can be given back: then leases run out, as if this process had been killed.
            with suppress(Exception):
                give_back()
        return len(items)


def end_in_time(
    line: StopLine, unfinished: Unfinished, seconds: float, give_back_more: Callable[[], int] = lambda: 0
) -> None:
    """Starts the thread that cuts this process off when it has not ended so many seconds after the line was pulled.

    Args:
        line: Tells that the worker ends.
        unfinished: Given back then.
        seconds: How long what goes on may take.
        give_back_more: Gives back what has not even begun, and says how much it was.
    """

    def watch() -> None:
        line.wait()
        time.sleep(seconds)
        count = unfinished.give_back() + give_back_more()
        logger.warning("stopped after %.0f s: %d unfinished pieces of work are handed to other workers", seconds, count)
        os._exit(0)

    threading.Thread(target=watch, name="end", daemon=True).start()
