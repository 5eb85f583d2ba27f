"""Restarts query workers and web processes one after the other while searches come, and counts those that fail.

    python -m tests.chaos.rolling

Two query workers and two web processes, each with a port of its own. A client whose connection is refused, or ends
before an answer has begun, goes to the other web process, as a proxy in front of them does. Each part is told to stop
by SIGTERM, and started again when it has ended; the next one follows when it is ready. If any search fails, the exit
status is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measuring import percentile
from benchmarks.system import System, WebProcess, WorkerProcess, running_redis
from common.settings import LibraryRoot, Settings
from tests.chaos.load import Load, Outcome, by_id, by_upload
from tests.chaos.world import make_library
from tests.models import save_fast_model

# Longer than supervisors wait by default.
STOP_SECONDS = 60


@dataclass
class Rolling:
    """What came out."""

    rate: float
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: int = 0
    stop_seconds: dict[str, list[float]] = field(default_factory=dict)
    codes: set[int] = field(default_factory=set)

    @property
    def errors(self) -> list[str]:
        """Those of the searches that failed."""
        return [outcome.error for outcome in self.outcomes if outcome.error]

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        times = [outcome.ended - outcome.began for outcome in self.outcomes]
        return {
            "rate_per_second": self.rate,
            "searches": len(self.outcomes),
            "failed": len(self.errors),
            "errors": sorted(set(self.errors))[:5],
            "left_out": self.left_out,
            "put_off": sum(outcome.put_off > 0 for outcome in self.outcomes),
            "went_to_the_other_web_process": sum(outcome.moved > 0 for outcome in self.outcomes),
            "p50_ms": round(percentile(times, 50) * 1000, 1),
            "p99_ms": round(percentile(times, 99) * 1000, 1),
            "highest_ms": round(max(times) * 1000, 1),
            "restarts": {part: len(seconds) for part, seconds in self.stop_seconds.items()},
            "longest_stop_s": {part: round(max(seconds), 1) for part, seconds in self.stop_seconds.items()},
        }


def roll(system: System, library: Path, rounds: int, rate: float) -> Rolling:
    """Indexes a library, and restarts everything so many times under load.

    Args:
        system: A system without workers; they are started here.
        library: The folder behind its only root, with JPEG files.
        rounds: How often each part is restarted.
        rate: Searches a second.
    """
    system.start_worker("bulk", ready=False)
    queries = [system.start_worker("query", ready=False) for _ in range(2)]
    webs = [WebProcess(system.settings) for _ in range(2)]
    report = Rolling(rate)
    try:
        for part in (*queries, *webs):
            part.wait_ready()
        system.index(system.settings.library_roots[0].name)
        files = sorted(library.iterdir())
        bodies = [by_upload(path) for path in files[::2]]
        bodies += [by_id(path, f"{system.settings.library_roots[0].name}/{path.name}") for path in files[1::2]]
        load = Load([web.address for web in webs], bodies, rate)
        try:
            for _ in range(rounds):
                for number in range(2):
                    _stop(report, "query", queries[number])
                    queries[number] = system.start_worker("query")
                    _stop(report, "web", webs[number])
                    webs[number] = WebProcess(system.settings, webs[number].port)
                    webs[number].wait_ready()
        finally:
            report.outcomes, report.left_out = load.stop(), load.left_out
    finally:
        for web in webs:
            web.kill()
    return report


def _stop(report: Rolling, name: str, part: WorkerProcess | WebProcess) -> None:
    time.sleep(1)
    began = time.monotonic()
    part.process.terminate()
    report.codes.add(part.process.wait(STOP_SECONDS))
    report.stop_seconds.setdefault(name, []).append(time.monotonic() - began)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each of the four is restarted [3]")
    parser.add_argument("--rate", type=float, default=20, help="searches a second [20]")
    parser.add_argument("--photos", type=Path, help="a folder of photos; else pictures are generated")
    parser.add_argument("--count", type=int, default=100, help="how many of them [100]")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="imagesearch-rolling-") as scratch, running_redis() as url:
        folder = Path(scratch)
        make_library(folder / "photos", options.photos, options.count)
        settings = Settings(
            redis_url=url,
            data_dir=folder / "data",
            library_roots=(LibraryRoot(name="photos", path=folder / "photos"),),
            model=str(save_fast_model(folder)),
            precision="float32",
            threads=1,
        )
        system = System(settings, folder)
        try:
            report = roll(system, folder / "photos", options.rounds, options.rate)
        finally:
            system.stop()
    print(json.dumps(report.as_json(), indent=1))
    sys.exit(bool(report.errors))


if __name__ == "__main__":
    main()
