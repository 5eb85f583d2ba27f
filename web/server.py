"""Serves the web tier with gunicorn."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from common.logs import setup_logging
from common.settings import Settings
from web.processes import counting_together
from web.worker import MAX_HEAD_BYTES, PatientWorker

# More than all that may last: requests that wait for a result (`web.services`), bodies and files (`web.bodies`).
THREADS = 64
# Each viewer of live events is an open file, and many systems give a process only 1,024.
_FILES = 8192
_SHARED_MEMORY = Path("/dev/shm")
# glibc's parameter of this name, see malloc.h.
_M_ARENA_MAX = -8


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own lines go where all others go."""

    def setup(self, cfg: Any) -> None:
        """Takes away its handlers."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured from here alone: no configuration file and no variable of its own is read."""

    def __init__(self, host: str, port: int, settings: Settings, processes: int = 1) -> None:
        self._settings = settings
        self._bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._processes = processes
        super().__init__()

    def load_config(self) -> None:
        """Sets the options."""
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Makes the application; called in each worker process, because h5py must not be touched before a fork."""
        from web import create_app

        return create_app(self._settings)

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "bind": [self._bind],
            "workers": self._processes,
            "worker_class": PatientWorker,
            "threads": THREADS,
            "preload_app": False,
            "limit_request_line": 8190,
            "limit_request_field_size": MAX_HEAD_BYTES,
            # Longer than the longest wait of a client for its result.
            "timeout": 60,
            "graceful_timeout": 35,
            "keepalive": 15,
            # `web.request_log` writes the lines of requests.
            "accesslog": None,
            "logger_class": _Log,
            "loglevel": "warning",
            "proc_name": "imagesearch-web",
            "post_worker_init": _stop_in_order,
            "worker_exit": _end_viewers,
        }
        if _SHARED_MEMORY.is_dir():
            # The heartbeat file on a slow disk would make a healthy worker look dead.
            options["worker_tmp_dir"] = str(_SHARED_MEMORY)
        if "control_socket_disable" in self.cfg.settings:  # gunicorn 25 and later
            options["control_socket_disable"] = True
        return options


def main(host: str = "127.0.0.1", port: int = 8000, settings: Settings | None = None, processes: int = 1) -> None:
    """Serves until it is told to stop.

    Args:
        host: The address to listen on.
        port: The port to listen on.
        settings: The product's settings; read from the environment by default.
        processes: Worker processes; each has threads of its own.
    """
    _share_heaps()
    _allow_files()
    settings = settings or Settings.load()
    setup_logging(settings)
    with counting_together(processes):
        Server(host, port, settings, processes).run()


def _share_heaps() -> None:
    """Else the C library gives each of the many threads a heap of its own, and what they free stays there."""
    with suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _allow_files() -> None:
    """Raises the soft limit of open files, as far as the hard one lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stop_in_order(worker: Any) -> None:
    from web.stopping import stop_in_order

    stop_in_order(worker)


def _end_viewers(server: Any, worker: Any) -> None:
    """Ends live connections in good order when a process stops; they are none of gunicorn's any more."""
    from flask import Flask

    from web.live import hub_of

    application = getattr(worker, "wsgi", None)
    if isinstance(application, Flask):  # not the process in charge, nor one that never came up
        hub_of(application).close()
