from __future__ import annotations

import os

from tests.unit.helpers import python_json
from workers.priority import NICENESS

CODE = """
import json, os, pathlib, sys
import threading
from workers.priority import yield_to_searches
group = pathlib.Path("/proc/self/autogroup")
def session():
    return group.read_text() if group.exists() else None  # empty for a process that belongs to no such group
before = session()
os.nice(int(sys.argv[1]))
yield_to_searches()
inherited = []
thread = threading.Thread(target=lambda: inherited.append(os.getpriority(os.PRIO_PROCESS, 0)))
thread.start()
thread.join()
print(json.dumps([os.getpriority(os.PRIO_PROCESS, 0), *inherited, before == session()]))
"""


def test_a_worker_and_its_threads_yield_and_the_session_of_others_stays() -> None:
    expected = max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
    assert python_json(CODE, 0) == [expected, expected, True]


def test_a_priority_that_is_lower_still_is_kept() -> None:
    assert python_json(CODE, 19) == [19, 19, True]
