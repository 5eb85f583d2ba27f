"""A Redis that is killed and comes back, with its data or without."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import redis

from benchmarks.system import wait_until
from common.redis_server import redis_server_binary


class RedisProcess:
    """A Redis on a Unix socket, with an append-only file as `imagesearch up` starts it."""

    def __init__(self) -> None:
        # Not a deep folder: a socket's path has at most about 100 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="is-"))
        self.url = f"unix://{self._folder}/redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process, as long as it is not started again."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = {"port": "0", "unixsocket": f"{self._folder}/redis.sock", "dir": str(self._folder)}
        options |= {"appendonly": "yes", "maxmemory-policy": "noeviction", "loglevel": "warning"}
        command = [str(redis_server_binary())]
        for name, value in options.items():
            command += [f"--{name}", value]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with redis.Redis.from_url(self.url) as client:
            wait_until(lambda: _answers(client), "redis-server answers", 30)

    def kill(self, *, lose_data: bool = False) -> None:
        """Ends it without warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        if lose_data:
            shutil.rmtree(self._folder)
            self._folder.mkdir()

    def remove(self) -> None:
        """Ends it for good."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False  # not there yet, or still loading its data
