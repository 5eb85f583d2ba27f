"""Whether somebody still waits for a search (a key that whoever asks renews), and how one waits."""

from __future__ import annotations

from typing import cast

import redis
from redis.client import Pipeline

from common.redis_client import key, refusals_ignored

# So long a search is wanted after it was submitted, and after each time that somebody asked for it.
WANTED_SECONDS = 30
# So long after somebody went away: a page that is loaded again, or another one who waits, has asked by then.
LEAVING_SECONDS = 3


class Interest:
    """The interest in searches. It begins with their place in the queue, in the same step (`SearchQueue.admit`).

    Args:
        client: Redis.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def ask(self, pipe: Pipeline, search_id: str) -> None:
        """Asks whether anybody wants the answer, as part of a pipeline: 1 or 0."""
        pipe.exists(_wanted(search_id))

    def renew(self, pipe: Pipeline, search_id: str) -> None:
        """Somebody wants the answer, as part of a pipeline: true, unless that is not known of the search any more."""
        pipe.expire(_wanted(search_id), WANTED_SECONDS)

    def begin(self, search_id: str) -> None:
        """Somebody wants the answer again, as far as Redis takes a note of it: only a new key needs memory."""
        with refusals_ignored():
            self._redis.set(_wanted(search_id), 1, ex=WANTED_SECONDS)

    def leave(self, search_id: str) -> None:
        """Somebody wants it no more: it is not computed unless another one asks before long."""
        with refusals_ignored():  # then nobody renews it
            self._redis.expire(_wanted(search_id), LEAVING_SECONDS)

    def wait(self, pipe: Pipeline, search_id: str, seconds: float) -> None:
        """Waits until the search has ended, or so long, as part of a pipeline: what follows comes after that."""
        wake = key("search", search_id, "finished")
        # Rotating the one-element list onto itself wakes any number of waiters, early or late. Redis counts in
        # milliseconds, and none would mean for ever.
        pipe.blmove(wake, wake, cast("int", max(0.001, seconds)))


def _wanted(search_id: str) -> str:
    return key("search", search_id, "wanted")
