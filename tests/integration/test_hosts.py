"""Workers on several hosts, which have in common Redis, the library and the data folder, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.injection import injected
from benchmarks.system import environment, wait_until
from common.errors import RedisUnavailable
from common.jobs import Client
from common.redis_server import redis_server_binary
from common.settings import LibraryRoot, Settings
from common.store import open_store
from tests.integration.conftest import BATCH_SECONDS, LEASE_SECONDS, PICTURE_SECONDS, fill
from tests.integration.hosts import Host, can_make_hosts, network

PICTURES = 200
PASSWORD = "only-for-this-test"


class Site:
    """A Redis on the first host, and commands on any.

    Attributes:
        client: For waiting: it looks at Redis without a host of its own, through a Unix socket.
    """

    def __init__(self, hosts: list[Host], folder: Path, socket: Path) -> None:
        self.hosts = hosts
        self.library = folder / "pictures"
        self.data = folder / "data"
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        redis = [str(redis_server_binary()), "--bind", hosts[0].address, "--requirepass", PASSWORD, "--save", ""]
        redis += ["--unixsocket", str(socket)]
        self.client = Client(Settings(redis_url=f"unix://:{PASSWORD}@{socket}", data_dir=self.data))
        self._start(hosts[0].command([*redis, "--dir", str(folder)]), {}, folder / "redis.log")

    def settings(self, host: Host) -> Settings:
        """Each host mounts the library and keeps its cache at a place of its own."""
        own = self._folder / host.name
        (own / "mnt").mkdir(parents=True, exist_ok=True)
        return Settings(
            redis_url=f"redis://:{PASSWORD}@{self.hosts[0].address}:6379/0",
            data_dir=self.data,
            cache_dir=own / "cache",
            library_roots=(LibraryRoot(name="photos", path=own / "mnt"),),
            weights="untrained",
            precision="float32",
            threads=1,
            batch_seconds=BATCH_SECONDS,
        )

    def worker(self, host: Host, queues: str) -> subprocess.Popen[bytes]:
        """Starts a worker on a host."""
        return self._run(host, "worker", "--queues", queues)

    def cli(self, host: Host, *arguments: str) -> dict[str, object]:
        """Runs a command on a host; gives what it says as JSON."""
        process = self._run(host, *arguments, "--json", output=subprocess.PIPE)
        answer, _ = process.communicate(timeout=120)
        assert process.returncode == 0, answer
        document: dict[str, object] = json.loads(answer)
        return document

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kills a process and all that it started, at once."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Kills everything."""
        for process in reversed(self._processes):
            if process.poll() is None:
                self.kill(process)

    def _run(self, host: Host, *arguments: str, output: int | None = None) -> subprocess.Popen[bytes]:
        settings = self.settings(host)
        command = [sys.executable, "-m", "common.cli", *arguments]
        mounted = host.command(command, {settings.library_roots[0].path: self.library})
        log = self._folder / f"{host.name}-{arguments[0]}.log"
        return self._start(mounted, environment(settings), log, output)

    def _start(
        self, command: list[str], variables: dict[str, str], log: Path, output: int | None = None
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            process = subprocess.Popen(
                command, env=variables or None, stdout=output or file, stderr=file, start_new_session=True
            )
        self._processes.append(process)
        return process


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if not can_make_hosts():
        pytest.skip("needs root, iproute2 and network namespaces")
    with (
        tempfile.TemporaryDirectory(prefix="is-") as short,  # a socket's path has at most about 100 characters
        network(4) as hosts,
        injected(stub=PICTURE_SECONDS, lease=LEASE_SECONDS),
    ):
        (tmp_path / "pictures").mkdir()
        site = Site(hosts, tmp_path, Path(short) / "redis.sock")
        try:
            yield site
        finally:
            site.stop()


def queues_of(site: Site, host: Host) -> set[str]:
    """The queues of a host's workers that are ready."""
    found = [worker for worker in site.client.workers() if worker.host == host.name]
    return {queue for worker in found if worker.state in {"idle", "busy"} for queue in worker.queues}


def workers(site: Site) -> set[str]:
    """The names of the hosts whose workers are ready."""
    with suppress(RedisUnavailable):  # it is being started
        return {worker.host for worker in site.client.workers() if worker.state in {"idle", "busy"}}
    return set()


def test_workers_of_several_hosts_share_a_job_and_may_come_and_go(site: Site) -> None:
    first, second, third, fourth = site.hosts
    fill(site.library, range(PICTURES))
    dies = site.worker(second, "bulk")
    site.worker(third, "bulk")
    wait_until(lambda: workers(site) == {second.name, third.name}, "two hosts are ready")
    listed = site.cli(first, "status")["workers"]
    assert isinstance(listed, list)
    assert {worker["host"] for worker in listed} == {second.name, third.name}
    job_id = str(site.cli(first, "index", "photos")["id"])
    joins = site.worker(fourth, "bulk")
    wait_until(lambda: site.client.job(job_id).done >= 40, "the job has begun")
    site.kill(dies)
    wait_until(lambda: site.client.job(job_id).state == "done", "the job ends")
    ended = site.cli(first, "jobs", job_id)
    assert (ended["total"], ended["done"], ended["failed"]) == (PICTURES, PICTURES, 0)
    assert joins.poll() is None

    site.worker(second, "query")
    # The record of the bulk worker that was killed there lasts for some seconds.
    wait_until(lambda: "query" in queues_of(site, second), "a query worker is ready")
    picture = site.settings(third).library_roots[0].path / "0042.jpg"
    found = site.cli(third, "query", str(picture), "-k", "1")["results"]
    assert isinstance(found, list)
    assert found[0]["path"] == "photos/0042.jpg"

    store = open_store(site.settings(first))
    store.refresh()
    assert [entry.path for entry in store.catalog.below(None)] == [f"photos/{n:04}.jpg" for n in range(PICTURES)]
    assert [problems for _, problems in store.verify() if problems] == []
