"""What a store holds in the end, and how it differs from what it should hold."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.system import System
from common.messages import FINAL_JOB_STATES
from common.settings import Settings
from common.store import FeatureStore, export, open_store

# Half precision and another batch of the same network move a cosine by less than this.
LEAST_COSINE = 0.9999
SETTLE_SECONDS = 15.0


@dataclass(frozen=True)
class Content:
    """The live images of a store: path to feature, in the order of paths."""

    paths: list[str]
    features: npt.NDArray[np.float32]


def content_of(settings: Settings, scratch: Path) -> Content:
    """Reads a store through its export."""
    import h5py

    export(open_store(settings), scratch)
    with h5py.File(scratch) as file:
        return Content([path.decode() for path in file["paths"][:]], file["features"][:])


def differences(expected: Content, found: Content) -> list[str]:
    """What is not as it should be; empty if all is."""
    problems = []
    twice = [path for path, count in Counter(found.paths).items() if count > 1]
    missing = sorted(set(expected.paths) - set(found.paths))
    extra = sorted(set(found.paths) - set(expected.paths))
    for name, paths in (("more than once", twice), ("missing", missing), ("not expected", extra)):
        if paths:
            problems.append(f"{len(paths)} paths {name}: {paths[:3]}")
    if not problems:
        worst = float(cosines(expected, found).min())
        if worst < LEAST_COSINE:
            problems.append(f"a feature differs: cosine {worst:.6f}")
    return problems


def cosines(expected: Content, found: Content) -> npt.NDArray[np.float32]:
    """The cosine between the features of each path; both must hold the same paths."""
    norms = np.linalg.norm(expected.features, axis=1) * np.linalg.norm(found.features, axis=1)
    products: npt.NDArray[np.float32] = (expected.features * found.features).sum(axis=1) / norms
    return products


def store_problems(store: FeatureStore) -> list[str]:
    """What `verify` finds, and temporary files that count as data."""
    problems = [f"segment {name}: {found}" for name, found in store.verify() if found]
    problems += [f"{row.name} is no published segment" for row in store.catalog.segments() if ".tmp" in row.name]
    problems += [f"damaged: {name}" for name in store.damaged]
    return problems


def job_problems(system: System) -> list[str]:
    """Jobs that have not ended, or whose numbers contradict each other, and what jobs have left behind."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := _left_behind(system)) and time.monotonic() < deadline:
        time.sleep(0.2)
    problems = left
    for job in system.client.jobs():
        if job.state not in FINAL_JOB_STATES:
            problems.append(f"job {job.id} is {job.state} for ever")
        elif job.state == "failed":
            problems.append(f"job {job.id} failed: {job.error}")
        if job.found != job.unchanged + job.total or (job.state == "done" and job.done + job.failed != job.total):
            problems.append(f"the numbers of job {job.id} do not agree: {job.model_dump_json()}")
        if job.failed:
            errors = system.client.job_errors(job.id)
            problems.append(f"{job.failed} files of job {job.id} failed: {errors[0].path}: {errors[0].error}")
    return problems


def _left_behind(system: System) -> list[str]:
    left = []
    if active := system.client.redis.smembers("imagesearch:active"):
        left.append(f"jobs still marked as active: {active!r}")
    folder = system.settings.data_dir / "jobs"
    if notes := [path.name for path in folder.iterdir()]:
        left.append(f"plans of jobs that have ended: {notes}")
    return left
