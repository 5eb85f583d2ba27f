"""Memory that is free goes back to the system."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

# In a process of its own: how the heap of this one looks depends on all tests before. The blocks are too small to be
# mapped alone, and some that stay lie between them, the last one at the end of the heap.
FRAGMENT = """
import json, sys, time
from pathlib import Path
from workers.heap import Heap

def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024

heap = Heap(float(sys.argv[1]))
blocks = [bytearray(b"x" * 16384) for _ in range(8000)]
staying = blocks[::100] + [blocks[-1]]
full = anonymous()
del blocks
freed = anonymous()
heap.tidy()
print(json.dumps([full, freed, anonymous()]))
"""


def _sizes_mb(seconds: float) -> list[float]:
    run = subprocess.run([sys.executable, "-c", FRAGMENT, str(seconds)], check=True, capture_output=True, text=True)
    sizes: list[float] = json.loads(run.stdout)
    return sizes


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_free_pages_between_used_ones_go_back() -> None:
    full, freed, tidied = _sizes_mb(0)
    assert full - freed < 20, "the C library gives it back by itself: Heap is not needed any more"
    assert freed - tidied > 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_not_all_the_time() -> None:
    _, freed, tidied = _sizes_mb(60)
    assert freed - tidied < 1
