"""How fast the parts start, and how much memory they take, idle and after work.

Each start is from the command to readiness: the web tier's first answer, a worker's report that it is idle. One
start before the measured ones warms the disk and lets the worker prepare its model.

    python -m benchmarks.bench_footprint --images FOLDER
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.http_load import ProductClient, upload_body
from benchmarks.measuring import Noise, at_most, machine, peak_rss_mb, process_tree, pss_mb, repeated, tree_memory
from benchmarks.photos import copy_photos, photos_in
from benchmarks.system import System, environment, free_port, temporary_system, wait_until
from common.jobs import Client
from common.settings import Settings
from common.up.run_record import Child, RunRecord, read_record

WEB_TARGETS = {"start_seconds": 1.0, "memory_mb": 120.0}
WORKER_START_TARGET = 10.0
FILES = 64
SEARCHES = 50
_STOP_SECONDS = 60


@contextmanager
def started_web(settings: Settings, log: Path) -> Iterator[tuple[str, int, float]]:
    """The web tier. Gives its address, its pid, and the seconds until it first answered."""
    port = free_port()
    command = [sys.executable, "-m", "web", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment(settings), stdout=output, stderr=output)
    try:
        wait_until(lambda: _is_healthy(port, process), "the web tier answers", 60, every=0.01)
        yield f"http://127.0.0.1:{port}", process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def _is_healthy(port: int, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise RuntimeError("the web tier ended")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def measure_web(system: System, photos: list[Path], rounds: int) -> dict[str, Any]:
    """The web tier; a query worker answers the searches."""
    log = system.settings.data_dir.parent / "web.log"
    with started_web(system.settings, log) as (_, _, first):
        pass
    seconds = []
    for _ in range(rounds):
        with started_web(system.settings, log) as (_, pid, taken):
            seconds.append(taken)
            idle = tree_memory(pid)
    bulk = system.start_worker("bulk")
    _index(system)
    bulk.stop()
    system.start_worker("query")
    with started_web(system.settings, log) as (address, pid, _):
        client = ProductClient(address)
        for number in range(SEARCHES):
            client.search(upload_body(photos[number % len(photos)], "image"))
        used = tree_memory(pid)
    return {
        "start_seconds": repeated(seconds),
        "first_start_seconds": round(first, 2),
        "idle": idle,
        f"after_{SEARCHES}_searches": used,
    }


def measure_worker(system: System, queue: str, photos: list[Path], rounds: int) -> dict[str, Any]:
    """A worker: its starts, then its memory before and after work."""
    began = time.perf_counter()
    system.start_worker(queue).stop()
    first = time.perf_counter() - began
    seconds = []
    for last in [False] * (rounds - 1) + [True]:
        began = time.perf_counter()
        worker = system.start_worker(queue)
        seconds.append(time.perf_counter() - began)
        if not last:
            worker.stop()
    time.sleep(3)  # until it is at rest
    idle = tree_memory(worker.process.pid)
    if queue == "bulk":
        _index(system)
        work = f"after_{FILES}_images"
    else:
        for number in range(SEARCHES):
            system.search(photos[number % len(photos)].read_bytes())
        work = f"after_{SEARCHES}_searches"
    used = tree_memory(worker.process.pid)
    worker.stop()
    return {
        "start_seconds": repeated(seconds),
        "first_start_and_stop_seconds": round(first, 2),
        "idle": idle,
        work: used,
    }


def _index(system: System) -> None:
    job = system.index("images", 600)
    if job.done != FILES:
        raise RuntimeError(f"the job ended as {job}")


def measure_up(images: Path, folder: Path, weights: str, precision: Any, rounds: int) -> dict[str, Any]:
    """`imagesearch up`, with all of its processes; its first start indexes the photos."""
    folder.mkdir()
    settings = Settings(data_dir=folder / "data", weights=weights, precision=precision)
    ready, all_ready = [], []
    memory: dict[str, Any] = {}
    for number in range(rounds + 1):
        began = time.perf_counter()
        with _started_up(settings, images, folder / "up.log") as (pid, record):
            wait_until(lambda: "is ready" in (folder / "up.log").read_text(), "up is ready", every=0.02)
            first = time.perf_counter() - began
            client = Client(settings.model_copy(update={"redis_url": record.redis_url}))
            wait_until(partial(_workers_are_ready, client, pid), "both workers are ready", every=0.02)
            everything = time.perf_counter() - began
            if number:
                ready.append(first)
                all_ready.append(everything)
            else:
                wait_until(partial(_all_indexed, client), "the photos are indexed", 600, every=0.5)
                memory["after_indexing"] = _memory_of_up(settings, pid)
            time.sleep(3)
            memory["idle"] = _memory_of_up(settings, pid)
    return {"ready_seconds": repeated(ready), "workers_ready_seconds": repeated(all_ready), **memory}


@contextmanager
def _started_up(settings: Settings, images: Path, log: Path) -> Iterator[tuple[int, RunRecord]]:
    command = [sys.executable, "-m", "common.cli", "up", "--images", str(images), "--port", "0"]
    variables = environment(settings) | {"PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or _has_started(settings), "up starts its parts", every=0.02)
        record = read_record(settings.data_dir)
        if record is None:
            raise RuntimeError(f"up ended:\n{log.read_text()[-2000:]}")
        yield process.pid, record
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def _has_started(settings: Settings) -> bool:
    record = read_record(settings.data_dir)
    return record is not None and len(record.children) == 4


def _workers_are_ready(client: Client, up: int) -> bool:
    # Redis may still know workers of an earlier start.
    ours = process_tree(up)
    states = [worker.state for worker in client.workers() if worker.pid in ours]
    return len(states) == 2 and set(states) <= {"idle", "busy"}


def _all_indexed(client: Client) -> bool:
    jobs = client.jobs()
    return bool(jobs) and all(job.state == "done" for job in jobs)


def _memory_of_up(settings: Settings, pid: int) -> dict[str, Any]:
    record = read_record(settings.data_dir)
    children: tuple[Child, ...] = record.children if record else ()
    pids = process_tree(pid)
    return {
        "processes": len(pids),
        "pss_mb": round(sum(pss_mb(one) for one in pids), 1),
        "peak_rss_mb_by_part": {
            "up": [peak_rss_mb(pid)],
            **{child.name: [peak_rss_mb(one) for one in process_tree(child.pid)] for child in children},
        },
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of real photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", default="float32,bfloat16,int8")
    parser.add_argument("--weights", default="untrained")
    options = parser.parse_args()
    noise = Noise()
    workers: dict[str, dict[str, Any]] = {}
    up: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="imagesearch-footprint-") as name:
        images = Path(name) / "images"
        photos = copy_photos(photos_in(options.images), images, FILES)
        with temporary_system(images, "vgg16", options.weights) as system:
            web = measure_web(system, photos, options.rounds)
        for precision in options.precisions.split(","):
            with temporary_system(images, "vgg16", options.weights, precision=precision) as system:
                workers[precision] = {
                    queue: measure_worker(system, queue, photos, options.rounds) for queue in ("bulk", "query")
                }
            folder = Path(name) / f"up-{precision}"
            up[precision] = measure_up(images, folder, options.weights, precision, options.rounds)
    used = [web[moment] for moment in ("idle", f"after_{SEARCHES}_searches")]
    targets: dict[str, Any] = {
        "web_start_seconds": at_most(web["start_seconds"]["median"], WEB_TARGETS["start_seconds"]),
        "web_peak_rss_mb": at_most(max(item["peak_rss_mb"] for item in used), WEB_TARGETS["memory_mb"]),
        "web_pss_mb": at_most(max(item["pss_mb"] for item in used), WEB_TARGETS["memory_mb"]),
    }
    for precision, queues in workers.items():
        slowest = max(statistics.median(item["start_seconds"]["each"]) for item in queues.values())
        targets[f"worker_start_seconds_{precision}"] = at_most(slowest, WORKER_START_TARGET)
    result = {
        "targets": targets,
        "web": web,
        "workers": workers,
        "up": up,
        "weights": options.weights,
        "noise": noise.report(),
        "machine": machine(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
