"""Runs the whole system under mixed load for a while, kills parts of it, and looks for errors, leaks and losses.

    python -m tests.chaos.soak --minutes 30

Two query workers, two bulk workers, a maintenance worker, a web process and a Redis. Searches come at 80 % of the rate
that the system could answer at the start, while a job indexes, photos are deleted and come back, and segments are
merged. Every few minutes Redis, a worker or its child gets SIGKILL.

What must hold: no search fails but those of the seconds after a kill; no process grows; in the end each photo is found
by itself, and the store is sound. Else the exit status is 1. The last line of the output is all of it as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import psutil

from benchmarks.injection import injected
from benchmarks.system import System, WebProcess, WorkerProcess
from common.errors import ImageSearchError
from common.messages import FINAL_JOB_STATES, IndexJob
from common.settings import LibraryRoot, Settings
from common.store import open_store
from tests.chaos.load import Load, Query, SearchClient, SearchFailed, by_id, by_upload, capacity
from tests.chaos.memory import MemoryWatch
from tests.chaos.outcome import job_problems, store_problems
from tests.chaos.redis_process import RedisProcess
from tests.chaos.soak_report import Kill, Report, summary
from tests.chaos.world import make_library
from tests.models import save_fast_model

SHARE_OF_CAPACITY = 0.8
CAPACITY_SECONDS = 10.0
KILLS = ("query", "redis", "bulk child", "bulk")
MOST_SECONDS_BETWEEN_KILLS = 200.0
COMPACTION_SECONDS = 60.0
# So short that Redis soon holds as many results as it ever will; longer than a search may take.
TTL_SECONDS = 90
# The bulk workers' model sleeps so long for each photo, so that there is always a job under way.
BULK_SLEEP_SECONDS = 0.05


class Soak:
    """One run.

    Args:
        folder: An empty folder for everything.
        photos: Photos to copy from; pictures are generated without them.
        count: How many.
        report: Where the outcome goes.
        seed: Decides what is touched, deleted and killed.
    """

    def __init__(self, folder: Path, photos: Path | None, count: int, report: Report, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self._report = report
        self._library, self._aside = folder / "photos", folder / "aside"
        self._aside.mkdir()
        make_library(self._library, photos, count)
        self._redis = RedisProcess()
        self._settings = Settings(
            redis_url=self._redis.url,
            data_dir=folder / "data",
            library_roots=(LibraryRoot(name="photos", path=self._library),),
            model=str(save_fast_model(folder)),
            precision="float32",
            threads=1,
            batch_seconds=1,
            search_ttl_seconds=TTL_SECONDS,
        )
        self._system = System(self._settings, folder)
        self._log = folder / "web.log"
        # A photo that stays can be searched for at any time.
        files = sorted(self._library.iterdir())
        self._staying, self._passing = files[::2], files[1::2]
        self._roots: dict[str, int] = {}
        self._victims: dict[str, WorkerProcess] = {}
        self._job: IndexJob | None = None
        self._began = time.monotonic()

    # --- life ------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Runs everything and fills the report."""
        report = self._report
        self._redis.start()
        web = WebProcess(self._settings, log=self._log)
        try:
            for role in ("query 1", "query 2", "bulk 1", "bulk 2", "maintenance"):
                self._start(role)
            for worker in self._victims.values():
                worker.wait_ready()
            web.wait_ready()
            self._roots |= {"web": web.process.pid, "redis": self._redis.pid}
            report.photos = len(self._staying) + len(self._passing)
            self._say(f"indexed: {self._system.index('photos', 600).done} photos")
            queries = self._queries()
            report.capacity = self._capacity(web.address, queries)
            report.rate = SHARE_OF_CAPACITY * report.capacity
            self._say(f"{report.capacity:.0f} searches a second are possible; {report.rate:.0f} come from now on")
            watch = MemoryWatch(self._roots)
            load = Load([web.address], queries, report.rate)
            try:
                self._disturb(seconds)
            finally:
                report.outcomes, report.left_out = load.stop(), load.left_out
                report.trends = watch.stop()
            self._settle(web.address)
        finally:
            self._system.stop()
            web.kill()
            self._redis.remove()

    def _capacity(self, address: str, queries: Sequence[Query]) -> float:
        """How many searches a second are answered beside the index jobs, which take their part of the processors."""
        with ThreadPoolExecutor(1) as pool:
            measured = pool.submit(capacity, [address], queries, CAPACITY_SECONDS)
            while not measured.done():
                self._keep_busy()
                time.sleep(0.2)
            return measured.result()

    def _queries(self) -> list[Query]:
        queries = [
            by_id(path, f"photos/{path.name}") if number % 4 == 3 else by_upload(path)
            for number, path in enumerate(self._staying)
        ]
        self._rng.shuffle(queries)
        return queries

    def _start(self, role: str) -> None:
        queues = role.split()[0]
        with injected(slow=BULK_SLEEP_SECONDS if queues == "bulk" else None):
            worker = self._system.start_worker(queues, ready=False)
        self._victims[role], self._roots[role] = worker, worker.process.pid

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {text}", flush=True)

    # --- what happens ----------------------------------------------------------------------------------------

    def _disturb(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        every = min(MOST_SECONDS_BETWEEN_KILLS, seconds / 6)
        next_kill, next_compaction = time.monotonic() + every, time.monotonic() + COMPACTION_SECONDS
        parts = cycle(KILLS)
        while (now := time.monotonic()) < end:
            # The last seconds are without a kill, so that what it has broken for good shows.
            if now >= next_kill and now < end - every / 2:
                next_kill = now + every
                self._kill(next(parts))
            if now >= next_compaction:
                next_compaction = now + COMPACTION_SECONDS
                with suppress(ImageSearchError):  # Redis has just been killed
                    self._system.client.request_compaction()
            with suppress(ImageSearchError):
                self._keep_busy()
            time.sleep(0.5)

    def _kill(self, part: str) -> None:
        """Kills a part and starts it again. One worker of each kind is left alone, so that it can be watched."""
        self._say(f"SIGKILL of {part}")
        self._report.kills.append(Kill(part, time.monotonic()))
        if part == "redis":
            self._redis.kill()
            time.sleep(1)
            self._redis.start()
            self._roots["redis"] = self._redis.pid
        elif part == "bulk child":
            for child in psutil.Process(self._victims["bulk 2"].process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        else:
            self._victims[f"{part} 2"].kill()
            self._start(f"{part} 2")

    def _keep_busy(self) -> None:
        """When the job has ended, files are touched, some go, those that went come back, and the next job begins."""
        if self._job is not None:
            job = self._system.client.job(self._job.id)
            if job.state not in FINAL_JOB_STATES:
                return
            if job.state != "done":
                self._report.problems.append(f"job {job.id} is {job.state}: {job.error}")
        for path in self._rng.sample(sorted(self._library.iterdir()), self._report.photos // 3):
            path.touch()
        returning = list(self._aside.iterdir())
        for path in self._rng.sample(self._passing, len(self._passing) // 10):
            if path.exists():
                shutil.move(path, self._aside)
        for path in returning:
            shutil.move(path, self._library)
        self._submit()

    def _submit(self) -> IndexJob:
        self._job = self._system.client.submit_index_job("photos")
        self._report.jobs += 1
        return self._job

    # --- the end ---------------------------------------------------------------------------------------------

    def _settle(self, address: str) -> None:
        """Indexes everything once more, undisturbed, and compares the outcome with the files."""
        self._say("no more searches; everything is indexed once more and looked for")
        if self._job is not None:
            self._system.wait_for_job(self._job.id, 600)
        for path in self._aside.iterdir():
            shutil.move(path, self._library)
        job = self._system.wait_for_job(self._submit().id, 600)
        if job.state != "done":
            self._report.problems.append(f"the last job is {job.state}: {job.error}")
        self._report.problems += self._lost(address)
        self._report.problems += store_problems(open_store(self._settings))
        self._report.problems += job_problems(self._system)

    def _lost(self, address: str) -> list[str]:
        """The photos that are not found by themselves, by id or by upload."""
        client, lost = SearchClient([address]), []
        for path in sorted(self._library.iterdir()):
            for query in (by_id(path, f"photos/{path.name}"), by_upload(path)):
                try:
                    client.search(query)
                except SearchFailed as error:
                    lost.append(f"{path.name}: {error}")
        client.close()
        return [f"{len(lost)} searches for the photos themselves failed: {lost[0]}"] if lost else []


def run(folder: Path, photos: Path | None, count: int, minutes: float) -> Report:
    """Runs in an empty folder."""
    report = Report(minutes, count)
    try:
        Soak(folder, photos, count, report).run(60 * minutes)
    except (RuntimeError, SearchFailed, TimeoutError) as error:
        report.problems.append(str(error))
    report.judge()
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="how long the load lasts [30]")
    parser.add_argument("--photos", type=Path, help="a folder of photos; else pictures are generated")
    parser.add_argument("--count", type=int, default=400, help="how many of them [400]")
    parser.add_argument("--logs", type=Path, help="keep everything, with the workers' logs, in this empty folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="imagesearch-soak-") as scratch:
        folder = options.logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        figures = run(folder, options.photos, options.count, options.minutes).as_json()
    print(summary(figures))
    print(json.dumps(figures))
    sys.exit(bool(figures["problems"]))


if __name__ == "__main__":
    main()
