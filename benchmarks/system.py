"""A whole system in processes of its own, for measurements and integration tests: Redis and real workers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Literal

import psutil
import redis

from common.jobs import Client
from common.messages import IndexJob, SearchQuery, SearchResult
from common.redis_server import redis_server_binary
from common.settings import PREFIX, LibraryRoot, Settings, format_roots

READY_SECONDS = 180.0
Precision = Literal["auto", "float32", "bfloat16", "int8"]


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float = READY_SECONDS, *, every: float = 0.05
) -> None:
    """Waits until a condition holds, looking again every so many seconds.

    Raises:
        TimeoutError: It did not hold in time; `what` is in the message.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {seconds} s")
        time.sleep(every)


@contextmanager
def running_redis() -> Iterator[str]:
    """A Redis of its own on a Unix socket, empty. Gives its URL."""
    # Not a deep folder: a socket's path has at most about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="is-"))
    path = folder / "redis.sock"
    command = [
        str(redis_server_binary()),
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"unix://{path}"
    try:
        with redis.Redis.from_url(url) as client:
            wait_until(lambda: _answers(client), "redis-server answers", 20)
        yield url
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class WebProcess:
    """The web tier as `imagesearch web` starts it, in a process group of its own.

    Args:
        settings: Its settings, passed on through the environment.
        port: The port; a free one by default.
        processes: How many processes answer.
        log: The file that gets its output; by default it goes where that of this process goes.

    Attributes:
        address: Where it answers.
    """

    def __init__(
        self, settings: Settings, port: int | None = None, *, processes: int = 1, log: Path | None = None
    ) -> None:
        self.port = port or free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "web", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--processes", str(processes)]
        with nullcontext() if log is None else log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment(settings), stdout=output, stderr=output, start_new_session=True
            )

    def wait_ready(self) -> None:
        """Waits until it answers."""
        wait_until(self._is_healthy, "the web tier answers", 60)

    def _is_healthy(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError("the web tier ended")
        try:
            with urllib.request.urlopen(f"{self.address}/healthz", timeout=5) as response:
                return bool(response.status == 200)
        except urllib.error.URLError:
            return False

    def kill(self) -> None:
        """Kills it at once: stopped in order it would wait for the requests of browsers that are being closed."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_web(settings: Settings, *, processes: int = 1, log: Path | None = None) -> Iterator[str]:
    """A web tier on a free port; the arguments are those of `WebProcess`. Gives its address."""
    web = WebProcess(settings, processes=processes, log=log)
    try:
        web.wait_ready()
        yield web.address
    finally:
        web.kill()


def web_processes(*, recursive: bool = True) -> list[psutil.Process]:
    """The living processes of the web tiers that this process has started.

    Args:
        recursive: Also those that serve; else only those that are in charge of them.
    """
    found = []
    for child in psutil.Process().children(recursive=recursive):
        with suppress(psutil.NoSuchProcess):  # also one that has ended and is not waited for yet
            if "web" in child.cmdline():
                found.append(child)
    return found


class WorkerProcess:
    """A worker as `imagesearch worker` starts it, in a process group of its own.

    Args:
        settings: Its settings, passed on through the environment.
        queues: The queues it serves.
        log: The file that gets its output.
        *arguments: More arguments for the command.
    """

    def __init__(self, settings: Settings, queues: str, log: Path, *arguments: str) -> None:
        self.log = log
        self._settings = settings
        command = [sys.executable, "-m", "common.cli", "worker", "--queues", queues, *arguments]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment(settings), stdout=output, stderr=output, start_new_session=True
            )

    def wait_ready(self) -> None:
        """Waits until it has loaded its model and takes tasks."""
        client = Client(self._settings)

        def is_ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the worker ended:\n{self.log.read_text()[-2000:]}")
            return any(self._is_mine(w.pid) and w.state in {"idle", "busy"} for w in client.workers())

        wait_until(is_ready, "the worker is ready")

    def _is_mine(self, pid: int) -> bool:
        try:
            return os.getpgid(pid) == self.process.pid
        except ProcessLookupError:
            return False

    def kill(self) -> None:
        """Kills the whole process group at once, as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Asks it to stop, and kills what has not stopped after a while."""
        self.process.terminate()
        self.wait_stopped()

    def wait_stopped(self) -> None:
        """Waits until it has stopped, and kills it if it has not after a while."""
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()


class System:
    """Workers on one data folder, and a client for them.

    Args:
        settings: The settings of everything.
        logs: A folder for the workers' logs.

    Attributes:
        logs: As given.
    """

    def __init__(self, settings: Settings, logs: Path) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.logs = logs
        self._workers: list[WorkerProcess] = []

    def start_worker(self, queues: str, *arguments: str, ready: bool = True) -> WorkerProcess:
        """Starts a worker, and waits until it is ready if `ready`."""
        log = self.logs / f"worker-{len(self._workers)}-{queues}.log"
        worker = WorkerProcess(self.settings, queues, log, *arguments)
        self._workers.append(worker)
        if ready:
            worker.wait_ready()
        return worker

    def stop(self) -> None:
        """Stops all workers, side by side."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.wait_stopped()

    def kill(self) -> None:
        """Kills all workers at once, where nothing that they do any more matters."""
        for worker in self._workers:
            worker.kill()

    def wait_for_job(self, job_id: str, seconds: float = READY_SECONDS, *, every: float = 0.05) -> IndexJob:
        """Waits until a job has ended."""
        final = {"done", "failed", "cancelled"}
        wait_until(lambda: self.client.job(job_id).state in final, f"job {job_id} ends", seconds, every=every)
        return self.client.job(job_id)

    def index(self, folder: str, seconds: float = READY_SECONDS, *, every: float = 0.05) -> IndexJob:
        """Indexes a folder and waits for it."""
        return self.wait_for_job(self.client.submit_index_job(folder).id, seconds, every=every)

    def search(self, image: bytes | None = None, **query: object) -> SearchResult:
        """Searches and waits for the answer."""
        uploads = [] if image is None else [image]
        submitted = self.client.submit_search(SearchQuery(**query), uploads)  # type: ignore[arg-type]
        return self.client.search(submitted.id, wait_seconds=30)


@contextmanager
def temporary_system(images: Path, model: str, weights: str, *, precision: Precision = "float32") -> Iterator[System]:
    """A system of its own in a temporary folder, without workers, on a folder of pictures called `images`."""
    with tempfile.TemporaryDirectory() as name, running_redis() as url:
        settings = Settings(
            redis_url=url,
            data_dir=Path(name) / "data",
            library_roots=(LibraryRoot(name="images", path=images.absolute()),),
            model=model,
            weights=weights,
            precision=precision,
        )
        system = System(settings, Path(name))
        try:
            yield system
        finally:
            system.stop()


def environment(settings: Settings) -> dict[str, str]:
    """The process environment in which `Settings.load()` gives these settings."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name, value in settings.model_dump(exclude_defaults=True).items():
        if name == "library_roots":
            value = format_roots(settings.library_roots)
        elif name == "api_token" and settings.api_token is not None:
            value = settings.api_token.get_secret_value()
        variables[PREFIX + name.upper()] = str(value)
    variables.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    project = str(Path(__file__).parents[1])
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH", "")]))
    return variables
