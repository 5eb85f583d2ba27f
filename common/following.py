"""Follows index jobs on a screen while something else goes on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

from common.errors import RedisUnavailable, UnknownJob
from common.jobs import Client
from common.messages import FINAL_JOB_STATES, IndexJob
from common.terminal import JobProgress

_SHOW_EVERY_SECONDS = 0.5


class JobFollower:
    """Shows jobs, one after the other.

    Args:
        client: Asked for their states.
        stream: Where to.
        jobs: The first ones.
    """

    def __init__(self, client: Client, stream: TextIO, jobs: Iterable[IndexJob] = ()) -> None:
        self._client = client
        self._waiting = [job.id for job in jobs]
        self._progress = JobProgress(stream)
        self._next = 0.0

    @property
    def unfinished(self) -> list[str]:
        """The ids of the jobs whose end was not seen, in the order they were added."""
        return list(self._waiting)

    def add(self, job: IndexJob) -> None:
        """Shows this one, too, after the others."""
        self._waiting.append(job.id)

    def show(self) -> None:
        """Shows the current job's state. Called often."""
        if not self._waiting or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SHOW_EVERY_SECONDS
        with suppress(RedisUnavailable):  # it is being started again
            try:
                job = self._client.job(self._waiting[0])
            except UnknownJob:
                self._waiting.pop(0)
                return
            self._progress.show(job)
            if job.state in FINAL_JOB_STATES:
                self._waiting.pop(0)

    def close(self) -> None:
        """Ends the display."""
        self._progress.close()
