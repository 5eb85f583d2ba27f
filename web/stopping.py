"""Ends a process of the server so that no request gets lost, and nobody waits for long."""

from __future__ import annotations

import selectors
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from flask import Flask, current_app

# The key of the application's configuration where its server leaves how to find out whether it is stopping.
_IS_STOPPING = "SERVER_IS_STOPPING"


def server_is_stopping() -> bool:
    """Whether the server of the current application takes no more requests and waits for those that it has."""
    is_stopping: Callable[[], bool] | None = current_app.config.get(_IS_STOPPING)
    return is_stopping is not None and is_stopping()


def stop_in_order(worker: Any) -> None:
    """Prepares a process of gunicorn for SIGTERM. A hook: called when its application is loaded.

    gunicorn by itself stops accepting, but lets the kernel go on taking connections until the last request is answered,
    and resets them then. So what has connected is taken first, and further connections are refused: a proxy sends those
    to another server, whatever the request is.
    """
    if isinstance(worker.wsgi, Flask):
        worker.wsgi.config[_IS_STOPPING] = lambda: not worker.alive
    if not hasattr(worker, "method_queue"):  # another kind of worker than the one that this is about
        return
    handle_exit = worker.handle_exit

    def stop(number: int, frame: FrameType | None) -> None:
        # Between two events of the main loop: in the handler a lock may be held.
        worker.method_queue.defer(take_last)

    def take_last() -> None:
        if worker.alive:
            worker.set_accept_enabled(False)
            for listener in worker.sockets:
                while _has_connection(listener):
                    worker.accept(listener)
                listener.close()
            handle_exit(signal.SIGTERM, None)

    signal.signal(signal.SIGTERM, stop)
    signal.siginterrupt(signal.SIGTERM, False)


def _has_connection(listener: Any) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        return bool(selector.select(0))
