"""The four parts of a machine that runs everything: Redis, a query worker, a bulk worker and the web tier."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import redis

from common.errors import ConfigurationError
from common.presence import live_workers
from common.redis_client import connect
from common.redis_server import redis_server_binary
from common.settings import Settings
from common.up.run_record import child_environment
from common.up.supervisor import Part

REDIS, QUERY, BULK, WEB = "redis", "query", "bulk", "web"

QUERY_READY_SECONDS = 180.0
# On a machine that is busy with other things such a worker gets one part in thirty, and loading takes that long.
LOW_PRIORITY_READY_SECONDS = 900.0


def redis_part(settings: Settings, socket_path: Path) -> Part:
    """A Redis of our own on a Unix socket, which keeps its jobs in the data folder."""
    folder = (settings.data_dir / "redis").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    command = [str(redis_server_binary())]
    for name, value in options.items():
        command += [f"--{name}", value]
    return Part(REDIS, command, lambda _: _redis_answers(settings), ready_seconds=60, grace_seconds=10, stops_last=True)


def worker_part(settings: Settings, name: str, queues: str) -> Part:
    """A worker, ready when it has reported that its model is loaded."""
    command = [sys.executable, "-m", "common.cli", "worker", "--queues", queues]
    client = connect(settings)
    env = child_environment(settings)
    ready_seconds = QUERY_READY_SECONDS if name == QUERY else LOW_PRIORITY_READY_SECONDS
    return Part(name, command, lambda pid: _worker_reports(client, pid), env=env, ready_seconds=ready_seconds)


def web_part(settings: Settings, host: str, port: int) -> Part:
    """The web tier, ready when it answers."""
    command = [sys.executable, "-m", "web", "--host", host, "--port", str(port)]
    url = f"{address(host, port)}/healthz"
    return Part(WEB, command, lambda _: _answers(url), env=child_environment(settings), grace_seconds=10)


def address(host: str, port: int) -> str:
    """Where a browser on this machine finds the web tier."""
    # These mean "on every interface" and are no address to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(host: str, port: int) -> int:
    """Checks that the web tier can have the port; 0 chooses one.

    Raises:
        ConfigurationError: It cannot.
    """
    try:
        family, kind, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ConfigurationError(
            "--port", f"{host}:{port} cannot be used ({error.strerror}). Choose another: make up PORT=8001"
        ) from error


def _redis_answers(settings: Settings) -> bool:
    try:
        with connect(settings) as client:
            return bool(client.ping())
    except redis.RedisError:  # not there yet, or still reading its data
        return False


def _worker_reports(client: redis.Redis, session: int) -> bool:
    """Whether a process of the session is a worker with its model loaded."""
    with contextlib.suppress(redis.RedisError):
        for worker in live_workers(client):
            if worker.host == socket.gethostname() and worker.state in {"idle", "busy"}:
                with contextlib.suppress(ProcessLookupError):
                    if os.getsid(worker.pid) == session:
                        return True
    return False


def _answers(url: str) -> bool:
    # No proxy: this is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False
