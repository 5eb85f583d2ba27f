"""What real workers take of the processor: threads as many as their share, and a priority below that of searches."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from benchmarks.system import System, WorkerProcess
from workers.priority import NICENESS

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process to a core")


def priorities(worker: WorkerProcess) -> set[int]:
    """Of a worker's processes and all their threads."""
    parent = psutil.Process(worker.process.pid)
    threads = [thread.id for process in (parent, *parent.children(recursive=True)) for thread in process.threads()]
    return {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}


def session_priority(worker: WorkerProcess) -> int | None:
    """The niceness of a worker's session, where the system has one."""
    path = Path(f"/proc/{worker.process.pid}/autogroup")
    return int(path.read_text(encoding="ascii").split()[-1]) if path.exists() else None


def threads(system: System, queue: str) -> list[int | None]:
    return [worker.threads for worker in system.client.workers() if queue in worker.queues]


def test_workers_divide_the_cores_of_their_role_and_give_way_to_searches(system: System) -> None:
    system.settings = system.settings.model_copy(update={"threads": 0})
    cores = sorted(os.sched_getaffinity(0))
    bulk = [system.start_worker("bulk", ready=False) for _ in range(2)]
    os.sched_setaffinity(0, cores[:1])  # the query worker inherits it
    try:
        query = system.start_worker("query", ready=False)
    finally:
        os.sched_setaffinity(0, cores)
    for worker in (*bulk, query):
        worker.wait_ready()

    assert threads(system, "bulk") == [max(1, len(cores) // 2)] * 2
    assert threads(system, "query") == [1]

    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert priorities(query) == {own}
    assert [priorities(worker) for worker in bulk] == [{max(own, NICENESS)}] * 2
    if session_priority(query) is not None:
        assert session_priority(query) == 0
        assert [session_priority(worker) for worker in bulk] == [NICENESS] * 2
