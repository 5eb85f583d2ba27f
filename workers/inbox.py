"""Looks at each message before Celery does: what none of our own clients would send is dropped.

Whoever can write to Redis can put anything into a queue. Celery ends its consumer, or the whole worker, over some of
it, and keeps some to deliver it again for ever. Our own messages are the name of a task and a few ids, as JSON.
"""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from common.ids import is_id

# Ours have some 200.
MAX_BODY_CHARACTERS = 8192
_NONE_OF_OURS = {"timelimit": ([None, None], (None, None)), "expires": (None,), "compression": (None,)}


def argument_counts(tasks: Mapping[str, Callable[..., Any]]) -> dict[str, int]:
    """How many arguments each task takes.

    Args:
        tasks: The tasks by their names.
    """
    return {name: len(inspect.signature(task).parameters) for name, task in tasks.items()}


def problem_of(message: Any, tasks: Mapping[str, int]) -> str | None:
    """Why a message is none of ours, or None.

    Args:
        message: What lay in the queue, parsed from JSON.
        tasks: How many arguments each task takes.
    """
    try:
        _check(message, tasks)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"[:200]
    return None


def _check(message: Any, tasks: Mapping[str, int]) -> None:
    properties, headers = message["properties"], message["headers"]
    delivery = properties["delivery_info"]
    for text in (properties["delivery_tag"], delivery["exchange"], delivery["routing_key"], headers["id"]):
        _require(isinstance(text, str), "a text is missing")
    _require(type(properties.get("priority", 0)) is int, "the priority is no number")
    kind = (message["content-type"], message["content-encoding"], properties["body_encoding"])
    _require(kind == ("application/json", "utf-8", "base64"), f"the content is {kind!r:.80}")
    name = headers["task"]
    _require(isinstance(name, str) and name.startswith("imagesearch.") and name in tasks, f"no task {name!r:.80}")
    for header, values in _NONE_OF_OURS.items():
        _require(headers.get(header) in values, f"a strange {header}")
    _require(type(headers.get("retries", 0)) is int, "the retries are no number")
    if headers.get("eta") is not None:
        datetime.fromisoformat(headers["eta"])
    _require(len(message["body"]) <= MAX_BODY_CHARACTERS, "it is too large")
    arguments, keywords, embedded = json.loads(base64.b64decode(message["body"], validate=True))
    _require(not keywords and not any(embedded.values()), "it has more than arguments")
    _require(len(arguments) == tasks[name], "another number of arguments")
    _require(all(isinstance(argument, str) and is_id(argument) for argument in arguments), "an argument is no id")


def _require(is_right: bool, problem: str) -> None:
    if not is_right:
        raise ValueError(problem)
