"""Kills workers, Redis and the disk while folders are indexed, and compares the store with an undisturbed one's.

    python -m tests.chaos.run --seeds 10

Everything that happens follows from the seed, but not the moments in which the processes are hit: a seed that has
failed may succeed the next time.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.injection import injected
from benchmarks.system import System, running_redis
from common.settings import LibraryRoot, Settings
from common.store import open_store
from tests.chaos.outcome import Content, content_of, cosines, differences, job_problems, store_problems
from tests.chaos.world import World, make_library
from tests.models import save_fast_model


@dataclass(frozen=True)
class Plan:
    """How much happens in a run."""

    kills: int = 20
    redis_kills: int = 3
    """The second one, and every third after it, loses the data."""
    disk_faults: bool = True
    pause: tuple[float, float] = (0.5, 3.0)


@dataclass(frozen=True)
class Subject:
    """What is indexed, by what, and what must come out."""

    photos: Path
    model: Path | None
    """None: one that only sleeps."""
    expected: Content


def prepare(folder: Path, photos: Path | None, count: int, *, real: bool = True) -> Subject:
    """Makes the library, and indexes it without any disturbance.

    Args:
        folder: An empty folder.
        photos: Real photos; pictures are generated without them.
        count: How many.
        real: Whether workers have a fast model; else one that only sleeps, with which they start in a second.
    """
    library = folder / "photos"
    make_library(library, photos, count)
    model = save_fast_model(folder) if real else None
    with running_redis() as url:
        roots = (LibraryRoot(name="photos", path=library),)
        settings = Settings(
            redis_url=url,
            data_dir=folder / "data",
            library_roots=roots,
            model=str(model or "vgg16"),
            weights="untrained",
            precision="float32",
            threads=1,
        )
        system = System(settings, folder)
        try:
            with nullcontext() if real else injected(stub=0):
                system.start_worker("bulk")
            job = system.index("photos")
        finally:
            system.stop()
        if (job.state, job.failed) != ("done", 0):
            raise RuntimeError(f"the undisturbed run is {job}")
        return Subject(library, model, content_of(settings, folder / "export.h5"))


def run(folder: Path, subject: Subject, seed: int, plan: Plan) -> list[str]:
    """One run in an empty folder. Returns everything that is wrong in the end, after printing it."""
    rng = random.Random(seed)
    began = time.monotonic()
    world = World(folder, subject.photos, subject.model, rng)
    problems: list[str] = []
    try:
        world.start()
        world.submit()
        for fault in _faults(world, plan, rng):
            world.pause(rng.uniform(*plan.pause))
            world.keep_busy()
            fault()
        job = world.settle()
        if job.state != "done":
            problems.append(f"the last job is {job.state}: {job.error}")
        found = content_of(world.settings, folder / "export.h5")
        problems += differences(subject.expected, found)
        problems += store_problems(open_store(world.settings))
        problems += world.problems + job_problems(world.system)
        problems += _search_problems(world.system, subject)
    except (AssertionError, TimeoutError) as error:
        problems.append(str(error))
    finally:
        problems += world.stop()
    for problem in problems:
        print(f"  WRONG: {problem}")
    worst = "-" if problems else f"{float(cosines(subject.expected, found).min()):.6f}"
    print(
        f"seed {seed}: {'FAILED' if problems else 'ok'}; {plan.kills} kills, {plan.redis_kills} of Redis, "
        f"{world.job_count} jobs, {len(subject.expected.paths)} images, worst cosine {worst}, "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    return problems


def _faults(world: World, plan: Plan, rng: random.Random) -> list[Callable[[], None]]:
    ways = (world.kill_group, world.kill_children, world.kill_parent)
    faults: list[Callable[[], None]] = [rng.choice(ways) for _ in range(plan.kills)]
    faults += [world.empty_redis if number % 3 == 1 else world.restart_redis for number in range(plan.redis_kills)]
    if plan.disk_faults:
        faults += [world.fill_disk, world.protect_disk]
    rng.shuffle(faults)
    return faults


def _search_problems(system: System, subject: Subject) -> list[str]:
    """The query worker, whatever it went through, must answer."""
    path = sorted(subject.photos.iterdir())[0]
    result = system.search(path.read_bytes(), k=1)
    if result.state != "done" or result.results[0].score < 0.999:
        return [f"a search for {path.name} gave {result}"]
    return []


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="the first seed [1]")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs, each with the next seed [1]")
    parser.add_argument("--photos", type=Path, help="a folder of photos; else pictures are generated")
    parser.add_argument("--count", type=int, default=1000, help="how many pictures [1000]")
    parser.add_argument("--kills", type=int, default=20, help="kills of workers in each run [20]")
    parser.add_argument("--redis-kills", type=int, default=3, help="kills of Redis, each third loses its data [3]")
    parser.add_argument("--logs", type=Path, help="keep the workers' logs in this folder")
    options = parser.parse_args()
    plan = Plan(kills=options.kills, redis_kills=options.redis_kills)
    failed = []
    with tempfile.TemporaryDirectory(prefix="imagesearch-chaos-") as scratch:
        (Path(scratch) / "subject").mkdir()
        subject = prepare(Path(scratch) / "subject", options.photos, options.count)
        for seed in range(options.seed, options.seed + options.seeds):
            print(f"seed {seed}", flush=True)
            folder = (options.logs or Path(scratch)) / f"seed-{seed}"
            folder.mkdir(parents=True)
            if run(folder, subject, seed, plan):
                failed.append(seed)
    print(f"{options.seeds - len(failed)} of {options.seeds} seeds ok" + (f"; failed: {failed}" if failed else ""))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
