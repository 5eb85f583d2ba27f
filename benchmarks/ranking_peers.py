"""What the product's ranker is compared with: FAISS without and with a graph, the exact scan, the old sorted list."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil

from benchmarks.made_features import Source
from benchmarks.measuring import cores, percentile
from benchmarks.ranking_world import Singles, World, number_of
from common.ranking import ExactRanker, Ranker
from common.store import open_store

SearchFunction = Callable[[Singles, int], Sequence[int]]

# As FAISS's own benchmarks have it.
HNSW_NEIGHBOURS = 32
HNSW_EFFORTS = (32, 64, 128, 256, 512)
HNSW_RECALL = 0.99
# Peers that take long, or much memory, are left out beyond it.
_FEW = 200_000
# The rest is for the mapped features.
_MEMORY_PART = 0.6
_LINK_BYTES = 4


def measured(
    search: SearchFunction, world: World, *, k: int = 10, rounds: int = 1, seconds: float = 1e9, warm_up: int = 10
) -> dict[str, Any]:
    """One query after another: how long each takes, and how much of the truth is found.

    Args:
        search: Gives the numbers of the best images.
        world: Its queries are asked.
        k: How many results.
        rounds: How often each query is asked.
        seconds: No new query after that time; at least three are asked.
        warm_up: So many other queries before.
    """
    for query in world.warm_up[:warm_up]:
        search(query, k)
    laps: list[float] = []
    found: list[list[int]] = []
    deadline = time.perf_counter() + seconds
    for number in range(rounds * len(world.queries)):
        if number >= 3 and time.perf_counter() > deadline:
            break
        query = world.queries[number % len(world.queries)]
        began = time.perf_counter()
        numbers = search(query, k)
        laps.append(time.perf_counter() - began)
        if number < len(world.queries):
            found.append([int(one) for one in numbers])
    first = laps[: len(found)]
    return {
        "p50_ms": round(1000 * percentile(laps, 50), 3),
        "p95_ms": round(1000 * percentile(laps, 95), 3),
        "p50_ms_first_round": round(1000 * percentile(first, 50), 3),
        "recall": round(world.recall(found, k), 4),
        "queries": len(laps),
    }


def numbers_by(ranker: Ranker) -> SearchFunction:
    """A ranker's answers as the numbers of images."""
    return lambda query, k: [number_of(match.entry.path) for match in ranker.search(query, k)]


def measure_peers(world: World, options: Any) -> dict[str, Any]:
    """All peers that fit this world."""
    figures: dict[str, Any] = {"numpy_exact": _measure_exact(world, options)}
    figures["faiss_flat_float32"] = _measure_flat(world, options, half=False)
    figures["faiss_flat_float16"] = _measure_flat(world, options, half=True)
    figures["faiss_hnsw"] = _measure_hnsw(world, options)
    figures["old_list"] = _measure_old(world, options)
    return figures


def _measure_exact(world: World, options: Any) -> dict[str, Any]:
    with world.copy() as settings:
        ranker = ExactRanker(open_store(settings), threads=cores())
        return measured(numbers_by(ranker), world, seconds=options.peer_seconds, warm_up=3)


def _measure_flat(world: World, options: Any, *, half: bool) -> dict[str, Any]:
    if reason := _too_large(world, half):
        return {"skipped": reason}
    index, seconds = _sharded(world, half)
    figures = measured(_search_of(index), world, seconds=options.peer_seconds, warm_up=3)
    return {"build_seconds": seconds, "memory_mb": _features_mb(world, half), **figures}


def _sharded(world: World, half: bool) -> tuple[Any, float]:
    """A flat index in as many parts as there are cores: FAISS scans a single query with one thread a part."""
    began = time.perf_counter()
    dimension = world.source.spec.dimension
    parts: list[Any] = []
    for features in world.all_features():
        if not parts or parts[-1].ntotal * cores() >= world.count:
            parts.append(
                faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
                if half
                else faiss.IndexFlatIP(dimension)
            )
        parts[-1].add(features)
    index: Any = faiss.IndexShards(dimension, True, True)  # type: ignore[call-arg]
    for part in parts:
        index.add_shard(part)
    return index, round(time.perf_counter() - began, 2)


def _measure_hnsw(world: World, options: Any) -> dict[str, Any]:
    """HNSW at one effort after another, until it finds enough."""
    if world.count > _FEW and not options.hnsw_million:
        return {"skipped": "takes long to build: --hnsw-million"}
    half = _too_large(world, False) is not None
    if half and (reason := _too_large(world, True)):
        return {"skipped": reason}
    layout = f"HNSW{HNSW_NEIGHBOURS}" + (",SQfp16" if half else "")
    index = faiss.index_factory(world.source.spec.dimension, layout, faiss.METRIC_INNER_PRODUCT)
    began = time.perf_counter()
    index.train(next(world.all_features()))
    for part in world.all_features():
        index.add(part)
    seconds = round(time.perf_counter() - began, 2)
    graph: Any = faiss.downcast_index(index).hnsw  # type: ignore[attr-defined]
    memory = round(_features_mb(world, half) + graph.neighbors.size() * _LINK_BYTES / 1e6, 1)
    efforts: dict[str, Any] = {}
    for effort in HNSW_EFFORTS:
        graph.efSearch = effort
        efforts[str(effort)] = measured(_search_of(index), world, seconds=options.peer_seconds)
        if efforts[str(effort)]["recall"] >= HNSW_RECALL:
            break
    return {
        "layout": layout,
        "build_seconds": seconds,
        "memory_mb": memory,
        "ef_search": effort,
        **efforts[str(effort)],
        "by_ef_search": efforts,
    }


def _measure_old(world: World, options: Any) -> dict[str, Any]:
    """The old search: a list of all features is compared and sorted in Python."""
    if world.count > _FEW:
        return {"skipped": "a list of so many features does not fit into memory"}
    # A process of its own: the old algorithm's modules change how the thread that loads them computes.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(
            _old_figures, world.folder, world.source, len(world.queries), options.peer_seconds
        ).result()


def _old_figures(folder: Path, source: Source, queries: int, seconds: float) -> dict[str, Any]:
    from benchmarks.old_algorithm import old_search

    world = World(folder, source, queries)
    features = [feature for part in world.all_features() for feature in part]

    def search(query: Singles, k: int) -> list[int]:
        return [position for _, position in old_search(query, features, k)]

    return measured(search, world, seconds=seconds, warm_up=1)


def _search_of(index: Any) -> SearchFunction:
    def search(query: Singles, k: int) -> Sequence[int]:
        numbers: Sequence[int] = index.search(query[np.newaxis], k)[1][0].tolist()
        return [number for number in numbers if number >= 0]

    return search


def _features_mb(world: World, half: bool) -> float:
    return (2 if half else 4) * world.count * world.source.spec.dimension / 1e6


def _too_large(world: World, half: bool) -> str | None:
    needed, available = _features_mb(world, half), psutil.virtual_memory().available / 1e6
    if needed < _MEMORY_PART * available:
        return None
    return f"needs {needed:.0f} MB; {available:.0f} MB of memory are available"
