"""The operating system's side of `up`: processes, the sessions they lead, and ending both.

Each part runs in a session of its own, whose id is the pid of its first process. What that process starts stays in
the session, and the system gives the id to nobody else while anyone is in it. So "ours" is never a guess by name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

from common.up.run_record import Child

# The start of a process is counted in ticks since the boot, whose time the clock's correction may shift a little.
_SAME_TIME_SECONDS = 1.0


def started_at(pid: int) -> float:
    """When the process began, in seconds since the epoch; 0 if it is gone already."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def session_members(session: int) -> list[psutil.Process]:
    """The living processes of a session."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def kill_session(session: int) -> None:
    """Ends what is left in a session, at once."""
    for process in session_members(session):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def stop_sessions(
    sessions: Sequence[int], has_ended: Callable[[int], bool], grace_seconds: float, in_hurry: Callable[[], bool]
) -> None:
    """Asks the first process of each session to end, waits, and kills what is left of the sessions.

    Args:
        sessions: The ids.
        has_ended: Whether the first process of a session is gone.
        grace_seconds: How long to wait.
        in_hurry: Asked while waiting; ends the wait.
    """
    for session in sessions:
        if not has_ended(session):
            with contextlib.suppress(ProcessLookupError):
                os.kill(session, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    left = set(sessions)
    while left:
        expired = time.monotonic() >= deadline or in_hurry()
        # The rest of a session goes right after its first process: later the id may be somebody else's.
        for session in [session for session in left if expired or has_ended(session)]:
            kill_session(session)
            left.remove(session)
        time.sleep(0.05 if left else 0)


def stop_leftovers(children: Iterable[Child], booted: float, grace_seconds: float) -> list[str]:
    """Stops what an `up` that was killed left running.

    Args:
        children: What it recorded.
        booted: When this machine had started, as it recorded it.
        grace_seconds: How long they get to end by themselves.

    Returns:
        The names of the parts that were still there.
    """
    same_boot = abs(psutil.boot_time() - booted) < 60
    found = {child.pid: child.name for child in children if _is_ours(child, same_boot)}
    stop_sessions(list(found), lambda pid: not psutil.pid_exists(pid), grace_seconds, lambda: False)
    return list(found.values())


def _is_ours(child: Child, same_boot: bool) -> bool:
    if psutil.pid_exists(child.pid):
        return abs(started_at(child.pid) - child.created) < _SAME_TIME_SECONDS
    # Its first process is gone. Others may live on in its session, and until the next boot the id is only theirs.
    return same_boot and any(
        started_at(process.pid) >= child.created - _SAME_TIME_SECONDS for process in session_members(child.pid)
    )


def last_lines(path: Path, offset: int, count: int = 15) -> str:
    """The last lines of a log after `offset` bytes."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(offset, size - 64 * 1024))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
