"""Whether the service in this container is well: `python -m common.healthcheck web|worker|ready`.

Run every few seconds beside the service, so it imports little and only looks at what the service shows anyway.

`web` and `worker` ask whether the service lives and gets on: a worker that loads the model, which takes minutes at the
first start on a kind of processor, is well. `ready` asks whether a worker takes tasks; for the whole system, `/readyz`.
"""

from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Sequence

TIMEOUT_SECONDS = 5.0
DEFAULT_PORT = 8000
# Whoever has not loaded its model after this long never will. A slow download of the weights has its time, too.
LOADING_SECONDS = 1800


def main(arguments: Sequence[str]) -> int:
    """Prints one line on how the service is.

    Args:
        arguments: `web [PORT]`, `worker` or `ready`.

    Returns:
        0 if it is well, 1 if not, 2 for wrong arguments.
    """
    match arguments:
        case ["web"]:
            well, line = web_health(DEFAULT_PORT)
        case ["web", port] if port.isdecimal():
            well, line = web_health(int(port))
        case ["worker" | "ready" as asked]:
            well, line = worker_health(socket.gethostname(), may_load=asked == "worker")
        case _:
            print("usage: python -m common.healthcheck web [PORT] | worker | ready", file=sys.stderr)
            return 2
    # One line, whatever it says: `docker inspect` shows it.
    print(" ".join(line.split()))
    return 0 if well else 1


def web_health(port: int) -> tuple[bool, str]:
    """Whether the web tier on this machine is well, and a line that says how it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        with connection.getresponse() as response:
            status = response.status
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from port {port}: {error}"
    finally:
        connection.close()
    return (True, "ok") if status == 200 else (False, f"/healthz answers {status}")


def worker_health(host: str, *, may_load: bool) -> tuple[bool, str]:
    """How the worker of a host is; in a container the host is the container itself.

    Args:
        host: The host's name, as the worker reports it.
        may_load: Whether a worker that still loads its model counts as well.

    Returns:
        Whether it is well, and a line that says how it is.
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
        return False, str(error)
    if not mine:
        return False, "no worker process reports; a record in Redis is renewed every few seconds"
    # One process at work is enough: another one may just be starting.
    best = min(mine, key=lambda worker: ("idle", "busy", "loading", "stuck", "waiting").index(worker.state))
    line = f"{best.state}: {best.detail}" if best.detail else best.state
    if best.state != "loading":
        return best.state in {"idle", "busy"}, line
    seconds = (best.last_seen - (best.started_at or best.last_seen)).total_seconds()
    return may_load and seconds < LOADING_SECONDS, f"{line} ({seconds:.0f} s so far)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
