"""`imagesearch up`: starts everything on this machine, indexes, and stays until it is told to stop."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil

from common.errors import RedisUnavailable
from common.following import JobFollower
from common.jobs import Client
from common.models import resolved_model
from common.settings import PREFIX, Settings
from common.terminal import DownloadProgress
from common.up import run_record
from common.up.parts import BULK, QUERY, REDIS, WEB, address, free_port, redis_part, web_part, worker_part
from common.up.processes import stop_leftovers
from common.up.recovery import InterruptedJob, end_interrupted_jobs, submit_jobs
from common.up.roots import choose_roots
from common.up.run_record import Child, RunRecord
from common.up.signals import StopSignals
from common.up.supervisor import POLL_SECONDS, Supervisor
from common.weights import resolve_weights

_LEFTOVER_GRACE_SECONDS = 10.0

UNTRAINED = """
  The model is UNTRAINED: results match colour and texture only. For results that match what pictures show,
  stop this and provide the weights in one of three ways:
    1. let this machine reach the internet once, and run: imagesearch weights
    2. put Keras's file vgg16_weights_tf_dim_ordering_tf_kernels.h5 into {folder}
    3. set IMAGESEARCH_WEIGHTS to the path of a Keras .h5 file with VGG16 weights
"""


def run_up(images: Path | None, host: str, port: int) -> None:
    """Runs everything until a signal says stop.

    Args:
        images: The folder to serve and index; None for those of earlier starts, or a sample library.
        host: Where the web tier listens.
        port: Its port; 0 chooses one.

    Raises:
        AlreadyRunning: Another one runs on the data folder.
        PartFailed: A part does not run. Everything is stopped again by then.
        ConfigurationError: The port cannot be used.
    """
    settings = _absolute(Settings.load())
    own_redis = not (os.environ.get(f"{PREFIX}REDIS_URL") or os.environ.get(f"{PREFIX}REDIS_URL_FILE"))
    with ExitStack() as stack:
        stack.enter_context(closing(run_record.take_lock(settings.data_dir)))
        _clear_leftovers(settings.data_dir)
        port = free_port(host, port)
        roots, folders = choose_roots(settings, images, _say)
        settings = settings.model_copy(update={"library_roots": roots})
        # Here and not in the workers: a download is seen, and takes as long as it takes.
        with closing(DownloadProgress(sys.stdout)) as progress:
            resolve_weights(settings, progress)
        stop = stack.enter_context(StopSignals())
        if own_redis:
            socket = stack.enter_context(_socket_folder()) / "redis.sock"
            settings = settings.model_copy(update={"redis_url": f"unix://{socket}"})
        stack.callback(run_record.remove_record, settings.data_dir)
        _Up(settings, address(host, port), stop).run(host, port, folders, own_redis=own_redis)


class _Up:
    """One run. The lock is held, and nothing runs yet."""

    def __init__(self, settings: Settings, url: str, stop: StopSignals) -> None:
        self._settings = settings
        self._url = url
        self._stop = stop
        self._supervisor = Supervisor(settings.data_dir / "logs", _say, self._record)

    def run(self, host: str, port: int, folders: list[str], *, own_redis: bool) -> None:
        """Starts, stays, stops."""
        _say(f"Starting. Data folder: {self._settings.data_dir} (logs are in {self._settings.data_dir / 'logs'})")
        try:
            interrupted = self._start_redis() if own_redis else []
            if not self._stop.requested():
                self._supervisor.start(worker_part(self._settings, QUERY, "query"))
                self._supervisor.start(worker_part(self._settings, BULK, "bulk,maintenance"))
                self._supervisor.start(web_part(self._settings, host, port))
                self._stay(folders, interrupted)
        finally:
            if self._stop.requested():
                with suppress(OSError):  # the terminal may be gone
                    _say("Stopping: work under way gets half a minute to end. Ctrl-C again stops it at once.")
            self._supervisor.stop(self._stop.in_hurry)
        _say("Stopped. The next start continues from here.")

    def _start_redis(self) -> list[InterruptedJob]:
        socket = Path(self._settings.redis_url.removeprefix("unix://"))
        self._supervisor.start(redis_part(self._settings, socket))
        if not self._supervisor.wait_ready(REDIS, until=self._stop.requested):
            return []
        return end_interrupted_jobs(self._settings)

    def _stay(self, folders: list[str], interrupted: list[InterruptedJob]) -> None:
        client = Client(self._settings)
        with closing(client.redis):
            # Before the workers are ready, so that a stop in between forgets no folder.
            jobs = submit_jobs(client, folders, interrupted)
            if self._supervisor.wait_ready(WEB, QUERY, until=Waiting(client, self._stop).is_over):
                _say(f"Imagesearch is ready: {self._url}")
                tell_if_untrained(self._settings)
            with closing(JobFollower(client, sys.stdout, jobs)) as follower:
                while not self._stop.requested():
                    self._supervisor.poll()
                    follower.show()
                    time.sleep(POLL_SECONDS)

    def _record(self, children: tuple[Child, ...]) -> None:
        settings = self._settings
        record = RunRecord(
            pid=os.getpid(),
            address=self._url,
            redis_url=settings.redis_url,
            library_roots=settings.library_roots,
            model=settings.model,
            weights=settings.weights,
            precision=settings.precision,
            booted=psutil.boot_time(),
            children=children,
        )
        run_record.write_record(settings.data_dir, record)


class Waiting:
    """While the workers are not ready: passes on what they say takes long, and ends when `up` is to stop."""

    def __init__(self, client: Client, stop: StopSignals) -> None:
        self._client = client
        self._stop = stop
        self._told: set[str] = set()

    def is_over(self) -> bool:
        """Whether not to wait any longer. Called often."""
        with suppress(RedisUnavailable):  # it is being started again
            details = {worker.detail for worker in self._client.workers() if worker.detail}
            for detail in sorted(details - self._told):
                _say(f"{detail[0].upper()}{detail[1:]}.".replace("..", "."))
            self._told |= details
        return self._stop.requested()


def tell_if_untrained(settings: Settings) -> None:
    """Says what untrained weights mean and how to get others, if the workers have loaded such."""
    spec = resolved_model(settings)
    if spec is not None and not spec.trained:
        _say(UNTRAINED.format(folder=settings.data_dir / "models"))


def _clear_leftovers(data_dir: Path) -> None:
    """Stops what an `up` that was killed left behind, and forgets its record."""
    record = run_record.read_record(data_dir)
    if record is None:
        return
    stopped = stop_leftovers(record.children, record.booted, _LEFTOVER_GRACE_SECONDS)
    if stopped:
        _say(f"Stopped what an earlier start had left running: {', '.join(stopped)}")
    if any(child.name == REDIS for child in record.children):
        # Its Redis, so its folder: a Redis of the settings is nobody's to clear away.
        shutil.rmtree(Path(record.redis_url.removeprefix("unix://")).parent, ignore_errors=True)
    run_record.remove_record(data_dir)


@contextmanager
def _socket_folder() -> Iterator[Path]:
    """A folder that only this user can enter. Not in the data folder: a socket's path has at most 100 characters."""
    folder = Path(tempfile.mkdtemp(prefix="imagesearch-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _absolute(settings: Settings) -> Settings:
    """The settings with paths that mean the same from any folder: other processes read them."""
    changed: dict[str, object] = {"data_dir": settings.data_dir.absolute()}
    if settings.model != "vgg16":
        changed["model"] = str(Path(settings.model).absolute())
    if settings.weights not in {"auto", "imagenet", "untrained"}:
        changed["weights"] = str(Path(settings.weights).absolute())
    return settings.model_copy(update=changed)


def _say(text: str) -> None:
    print(text, flush=True)
