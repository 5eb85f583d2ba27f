"""What a process is working on, for its log lines: the ids that find all lines of one request, search or job.

The web tier begins a context with the id of the HTTP request. A task carries that id in a header of its message, so the
worker's lines have it, too, and those of the tasks that follow from it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from common.celery_app import FIND_DUPLICATES, INDEX_BATCH, SCAN, SEARCH

FIELDS = ("request_id", "search_id", "job_id", "batch")
"""All fields that a context can have, in the order of log lines."""

HEADER = "imagesearch"
"""The header of a task's message that carries what is not among its arguments."""

# What the arguments of a task are.
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    SEARCH: ("search_id",),
    SCAN: ("job_id",),
    INDEX_BATCH: ("job_id", "batch"),
    FIND_DUPLICATES: ("job_id",),
}
# Ids come from clients and messages: nothing else of them gets into a log.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_current: ContextVar[dict[str, str] | None] = ContextVar("log_context", default=None)


def accepted_id(value: object) -> str | None:
    """An id that was given from outside if it is one, else None."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def new_request_id() -> str:
    """A new id for a request."""
    return secrets.token_hex(8)


def begin(**fields: object) -> None:
    """Begins a context of its own in this thread, until `end`; what is no id is left out."""
    _current.set({})
    add(**fields)


def end() -> None:
    """Ends what was begun."""
    _current.set(None)


@contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Adds fields to all log lines of the block, in this thread; what is no id is left out."""
    token = _current.set(dict(_current.get() or {}))
    try:
        add(**fields)
        yield
    finally:
        _current.reset(token)


def add(**fields: object) -> None:
    """Adds fields to the context from here on; does nothing outside a context."""
    context = _current.get()
    if context is not None:
        context.update({name: value for name, given in fields.items() if (value := accepted_id(given)) is not None})


def current() -> Mapping[str, str]:
    """The fields as they are now."""
    return _current.get() or {}


def task_fields(task: str, args: Sequence[object]) -> dict[str, object]:
    """The fields that the arguments of a task are."""
    return dict(zip(_ARGUMENTS.get(task, ()), args, strict=False))


def task_headers() -> dict[str, Any]:
    """The headers of a task that is sent now: the request it follows from, and the time."""
    return {HEADER: {"request_id": current().get("request_id"), "sent_at": time.time()}}


def header_of(headers: object) -> Mapping[str, Any]:
    """What `task_headers` put into the headers of a message; empty if there is nothing of the kind."""
    found = headers.get(HEADER) if isinstance(headers, Mapping) else None
    return found if isinstance(found, Mapping) else {}
