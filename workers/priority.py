"""Searches first: every worker but a query worker runs at a low priority of the operating system."""

from __future__ import annotations

import os
import time
from pathlib import Path

# Measured, see docs/architecture.md: from 15 on a search takes as long as without an index job, at 10 it does not yet.
# Lower ones bring no more, and leave less to the thread that renews the leases when a machine is always busy.
NICENESS = 15
AUTOGROUP = Path("/proc/self/autogroup")


def yield_to_searches() -> None:
    """Lowers the priority of this process, and of all threads and processes that it starts from now on."""
    if os.getpriority(os.PRIO_PROCESS, 0) < NICENESS:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    # Linux may group processes by session for scheduling; then niceness compares within a session only, and between
    # them the group's own counts. The session is this worker's if it leads it (under `imagesearch up` and systemd);
    # that of a terminal is not touched.
    if os.getsid(0) == os.getpid():
        _yield_as_session()


def _yield_as_session() -> None:
    for _ in range(3):
        try:
            AUTOGROUP.write_text(str(NICENESS), encoding="ascii")
        except BlockingIOError:  # the kernel accepts one such change every 0.1 s from all users but root
            time.sleep(0.11)
        except OSError:  # a system without it
            return
        else:
            return
