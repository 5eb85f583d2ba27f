"""A whole system that things happen to: workers come and go, Redis and the disk fail, and a job goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.injection import injected
from benchmarks.system import System, WorkerProcess, wait_until
from common.errors import RedisUnavailable, UnknownJob
from common.messages import FINAL_JOB_STATES, IndexJob
from common.settings import LibraryRoot, Settings
from tests.chaos.redis_process import RedisProcess
from tests.chaos.storage import StoreDisk
from tests.pictures import photo

# So short that a job has many batches.
BATCH_SECONDS = 0.05
# The model sleeps so long for each picture, so that a job lasts while things happen to it.
SLEEP_SECONDS = 0.03
BULK = ("bulk", "bulk", "bulk,maintenance")


class World:
    """One run.

    Args:
        folder: An empty folder for everything.
        photos: The library; its files are touched.
        model: A fast model; None for one that only sleeps.
        rng: Decides what happens.
    """

    def __init__(self, folder: Path, photos: Path, model: Path | None, rng: random.Random) -> None:
        self.rng = rng
        self.photos = photos
        self._is_real = model is not None
        self.redis = RedisProcess()
        self.settings = Settings(
            redis_url=self.redis.url,
            data_dir=folder / "data",
            library_roots=(LibraryRoot(name="photos", path=photos),),
            model=str(model or "vgg16"),
            weights="untrained",
            precision="float32",
            threads=1,
            batch_seconds=BATCH_SECONDS,
        )
        # The notes, plans and catalogs lie on one disk, the segments on another: only that one can be made read-only,
        # because the catalogs are always open.
        self.disks = [StoreDisk(self.settings.data_dir), StoreDisk(self.settings.data_dir / "stores")]
        self.system = System(self.settings, folder)
        self._workers: dict[WorkerProcess, str] = {}
        self._due: list[tuple[float, str]] = []
        self._groups: list[int] = []
        self._began = time.monotonic()
        self._job: IndexJob | None = None
        self.job_count = 0
        self.problems: list[str] = []

    # --- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts Redis and the workers."""
        self.redis.start()
        for queues in (*BULK, "query"):
            self._start_worker(queues)
        wait_until(lambda: len(self.system.client.workers()) == len(BULK) + 1, "all workers report", 180)

    def stop(self) -> list[str]:
        """Stops everything. Returns what is wrong with how it ended."""
        self.system.stop()
        self.redis.remove()
        for disk in reversed(self.disks):
            disk.remove()
        # Decoder processes notice a moment later that their worker has gone.
        deadline = time.monotonic() + 10
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return [f"processes left behind: {', '.join(left)}"] if left else []

    def _left(self) -> list[str]:
        """The processes that belong to a worker that was started here."""
        return [str(pid) for pid in psutil.pids() if _group_of(pid) in self._groups]

    def say(self, text: str) -> None:
        """Prints what happens, with the time since the start."""
        print(f"  {time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def pause(self, seconds: float) -> None:
        """Lets time go by, in which workers that are due are started."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            for item in [item for item in self._due if item[0] <= now]:
                self._due.remove(item)
                self._start_worker(item[1])
            time.sleep(0.05)

    def _start_worker(self, queues: str) -> None:
        seconds = SLEEP_SECONDS if queues != "query" else 0.0
        with injected(slow=seconds) if self._is_real else injected(stub=seconds):
            worker = self.system.start_worker(queues, ready=False)
        self._workers[worker] = queues
        self._groups.append(worker.process.pid)

    # --- jobs ------------------------------------------------------------------------------------------------

    def keep_busy(self) -> None:
        """Makes sure that a job runs: when one has ended, files are touched and the folder is indexed again."""
        if self._job is not None:
            try:
                self._job = self.system.client.job(self._job.id)
            except UnknownJob:
                self.say(f"job {self._job.id} is unknown")  # lost before a worker took note of it
                self._job = None
        if self._job is not None and self._job.state not in FINAL_JOB_STATES:
            return
        if self._job is not None:
            self.say(f"job {self._job.id} is {self._job.state}: {self._job.done} done, {self._job.error or 'no error'}")
            if self._job.state != "done":
                self.problems.append(f"job {self._job.id} is {self._job.state}: {self._job.error}")
            files = sorted(self.photos.rglob("*.jpg"))
            for path in self.rng.sample(files, len(files) // 3):
                path.touch()
        self.submit()

    def submit(self) -> IndexJob:
        """Asks for the folder to be indexed, as often as it takes."""
        while True:
            try:
                self._job = self.system.client.submit_index_job("photos")
            except RedisUnavailable:
                time.sleep(0.1)
            else:
                self.job_count += 1
                self.say(f"job {self._job.id} is submitted")
                return self._job

    def settle(self, seconds: float = 180) -> IndexJob:
        """Lets the running job end and indexes once more, undisturbed."""
        while self._due:
            self.pause(0.1)
        if self._job is not None:
            self._job = self.system.wait_for_job(self._job.id, seconds)
            self.say(f"job {self._job.id} is {self._job.state}")
        return self.system.wait_for_job(self.submit().id, seconds)

    # --- what happens ----------------------------------------------------------------------------------------

    def kill_group(self) -> None:
        """A worker and its children are killed; another worker comes a little later."""
        worker, queues = self._choose()
        self.say(f"SIGKILL of {queues} worker {worker.process.pid} and its children")
        worker.kill()
        self._replace(worker, queues)

    def kill_parent(self) -> None:
        """A worker is killed, and its children are orphans."""
        worker, queues = self._choose()
        self.say(f"SIGKILL of {queues} worker {worker.process.pid} alone")
        worker.process.kill()
        worker.process.wait()
        self._replace(worker, queues)

    def kill_children(self) -> None:
        """The children of a bulk worker are killed; it starts new ones."""
        worker, queues = self._choose(without="query")
        children = psutil.Process(worker.process.pid).children(recursive=True)
        self.say(f"SIGKILL of the {len(children)} children of {queues} worker {worker.process.pid}")
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def restart_redis(self) -> None:
        """Redis is killed and comes back with its data."""
        self.say("SIGKILL of Redis")
        self.redis.kill()
        self.pause(self.rng.uniform(0.2, 3))
        self.redis.start()
        self.say("Redis is back with its data")

    def empty_redis(self) -> None:
        """Redis is killed and comes back empty: jobs are lost, and shown as interrupted; the folder is sent again."""
        assert self._job is not None
        self.say("SIGKILL of Redis, and its data is lost")
        self.redis.kill(lose_data=True)
        self.pause(self.rng.uniform(0.2, 3))
        was_noted = (self.settings.data_dir / "jobs" / self._job.id / "job.json").exists()
        self.redis.start()
        self.say("Redis is back, empty")
        lost = {job.id: job for job in self.system.client.jobs()}.get(self._job.id)
        if was_noted and (lost is None or lost.state != "failed" or "interrupted" not in (lost.error or "")):
            raise AssertionError(f"job {self._job.id} is lost, and not shown as interrupted but as {lost}")
        self._job = None
        self.submit()

    def fill_disk(self) -> None:
        """There is no room for anything for some seconds."""
        if not all(disk.is_mounted for disk in self.disks):
            self.say("SKIPPED: the disk is full (mounting one needs root)")
            return
        self.say("the disk is full")
        for disk in self.disks:
            disk.fill()
        self.pause(self.rng.uniform(2, 6))
        for disk in self.disks:
            disk.free()
        self.say("the disk has room again")

    def protect_disk(self) -> None:
        """Segments cannot be written for some seconds."""
        disk = self.disks[-1]
        if not disk.is_mounted:
            self.say("SKIPPED: the disk is read-only (mounting one needs root)")
            return
        if not disk.make_read_only():
            self.say("SKIPPED: the disk is read-only (it was always being written)")
            return
        self.say("the disk is read-only")
        self.pause(self.rng.uniform(2, 6))
        disk.make_writable()
        self.say("the disk is writable again")

    def _choose(self, without: str = "") -> tuple[WorkerProcess, str]:
        while not (alive := [(w, q) for w, q in self._workers.items() if q != without and w.process.poll() is None]):
            self.pause(0.1)
        return self.rng.choice(alive)

    def _replace(self, worker: WorkerProcess, queues: str) -> None:
        del self._workers[worker]
        self._due.append((time.monotonic() + self.rng.uniform(0.1, 2), queues))


def _group_of(pid: int) -> int | None:
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return None
        return os.getpgid(pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


def make_library(folder: Path, photos: Path | None, count: int) -> None:
    """Fills a new folder with copies of the first photos of another, or with generated pictures."""
    folder.mkdir(parents=True)
    if photos is None:
        for seed in range(count):
            photo(seed).save(folder / f"{seed:05}.jpg", quality=90)
        return
    for path in sorted(photos.rglob("*.jpg"))[:count]:
        name = path.relative_to(photos).as_posix().replace("/", "-")
        shutil.copyfile(path, folder / name)
