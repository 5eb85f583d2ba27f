"""Whether the service in this container is well: `python -m common.healthcheck web|worker`.

Run every few seconds beside the service, so it imports little and only looks at what the service shows anyway.
"""

from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Sequence

TIMEOUT_SECONDS = 5.0
DEFAULT_PORT = 8000


def main(arguments: Sequence[str]) -> int:
    """Prints one line on how the service is.

    Args:
        arguments: `web [PORT]` or `worker`.

    Returns:
        0 if it is well, 1 if not, 2 for wrong arguments.
    """
    match arguments:
        case ["web"]:
            problem = web_problem(DEFAULT_PORT)
        case ["web", port] if port.isdecimal():
            problem = web_problem(int(port))
        case ["worker"]:
            problem = worker_problem(socket.gethostname())
        case _:
            print("usage: python -m common.healthcheck web [PORT] | worker", file=sys.stderr)
            return 2
    # One line, whatever the problem says: `docker inspect` shows it.
    print(" ".join(problem.split()) if problem else "ok")
    return 1 if problem else 0


def web_problem(port: int) -> str | None:
    """What is wrong with the web tier on this machine, if anything."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from port {port}: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"/healthz answers {status}"


def worker_problem(host: str) -> str | None:
    """What is wrong with the worker of this host, if anything; in a container the host is the container itself.

    Args:
        host: The host's name, as the worker reports it.
    """
    import redis

    from common.errors import ImageSearchError
    from common.presence import live_workers
    from common.redis_client import connect, reported
    from common.settings import Settings

    try:
        settings = Settings.load()
        with reported(settings):
            mine = [worker for worker in live_workers(connect(settings)) if worker.host == host]
    except (ImageSearchError, redis.RedisError) as error:
        return str(error)
    # One process at work is enough: another one may just be starting.
    if any(worker.state in {"idle", "busy"} for worker in mine):
        return None
    if not mine:
        return "no worker process reports; a record in Redis is renewed every few seconds"
    first = mine[0]
    return f"{first.state}: {first.detail}" if first.detail else first.state


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
