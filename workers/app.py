"""The entry point for Celery: `celery -A workers.app worker`, which `imagesearch worker` calls.

A query worker has threads in one process and loads the model in it. The others fork: there the model is loaded
in each child, and the parent never touches TensorFlow or HDF5.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from celery import Task, signals

from common import log_context
from common.celery_app import BULK, QUERY, make_celery
from common.errors import ImageSearchError
from common.settings import Settings
from workers import transport
from workers.awaiting_weights import await_weights
from workers.drain import StopLine, end_in_time, seconds_to_end
from workers.priority import yield_to_searches
from workers.runtime import runtime, start_runtime
from workers.threads import limit_libraries

logger = logging.getLogger(__name__)

settings = Settings.load()
limit_libraries(settings, os.environ)  # NumPy and TensorFlow read it when they are imported, which is later
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # TensorFlow's warnings, but not what it found at its start
transport.use()
app = make_celery(settings)
app.set_current()
app.set_default()
app.autodiscover_tasks(["workers"], force=True)
stop_line = StopLine()


def queues() -> list[str]:
    """The queues of this worker, as `imagesearch worker` was told."""
    return os.environ.get("IMAGESEARCH_WORKER_QUEUES", BULK).split(",")


@signals.setup_logging.connect(weak=False)
def _setup_logging(**_: Any) -> None:
    from common.logs import setup_logging

    setup_logging(settings)
    # That a task was received comes before it is begun, without the ids of its context: its end says more.
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


@signals.worker_init.connect(weak=False)
def _prepare(**_: Any) -> None:
    """In the main process, before it takes tasks."""
    _setup_logging()
    if QUERY not in queues():
        yield_to_searches()
    try:
        if {QUERY, BULK} & set(queues()):
            wait = os.environ.get("IMAGESEARCH_WORKER_WAIT_FOR_WEIGHTS") == "1"
            await_weights(settings, queues(), wait=wait)
        if QUERY in queues():
            _start_runtime()
    except ImageSearchError as error:
        logger.critical("%s", error)
        sys.exit(1)


def _start_runtime() -> None:
    """In the process that runs the tasks."""
    worker = start_runtime(settings, app, queues())
    end_in_time(stop_line, worker.unfinished, seconds_to_end(queues()), transport.put_back)


@signals.worker_process_init.connect(weak=False)
def _start_child(**_: Any) -> None:
    """In each child of a prefork pool."""
    stop_line.leave_to_parent()
    try:
        _start_runtime()
    except ImageSearchError as error:
        # The pool would start the same child again and again: end the whole worker instead.
        logger.critical("%s", error)
        os.kill(os.getppid(), signal.SIGTERM)


@signals.worker_shutting_down.connect(weak=False)
def _stop(**_: Any) -> None:
    """In the handler of the signal that ends the worker."""
    stop_line.pull()


@signals.worker_process_shutdown.connect(weak=False)
@signals.worker_shutdown.connect(weak=False)
def _leave(**_: Any) -> None:
    try:
        worker = runtime()
    except RuntimeError:
        return  # the parent of a prefork pool has none
    worker.finish(seconds_to_end(queues()))


@signals.task_prerun.connect(weak=False)
def _begin(task: Task, args: Sequence[object], **_: Any) -> None:
    request_id = log_context.header_of(task.request.headers).get("request_id")
    log_context.begin(request_id=request_id, **log_context.task_fields(task.name, args))
    runtime().activity.change(+1)


@signals.task_postrun.connect(weak=False)
def _end(**_: Any) -> None:
    runtime().activity.change(-1)
    log_context.end()
