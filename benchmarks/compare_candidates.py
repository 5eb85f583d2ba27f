"""Which index of candidates? Bases of few dimensions and codes of few bytes, compared at one size.

Each basis reduces the features (principal components of a sample, or a random rotation of which some values are
kept), each layout of FAISS encodes the reduced ones. What counts is how many of the ten best images are among so many
candidates, because those are compared exactly afterwards, and what a search costs on one thread.

    python -m benchmarks.compare_candidates --size 100000 --cache FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.made_features import MadeFeatures, blocks
from benchmarks.measuring import Noise, cores, machine, percentile
from benchmarks.ranking_world import Singles, World, kept_or_temporary

CANDIDATES = (100, 200, 400, 1000)
BASES = ("pca64", "pca128", "pca256", "random256", "random4096")
SAMPLE_ROWS = 20_000
NIBBLES = (32, 64, 128)
PROBES = (16, 64)
# What a layout is listed for: so much recall with at most so many candidates.
ENOUGH_RECALL, ENOUGH_CANDIDATES = 0.99, 400
# Beyond that many dimensions only one bit each is affordable.
_MOST_DIMENSIONS = 512


@dataclass(frozen=True)
class Reduction:
    """A basis: what is subtracted from a feature, and the matrix that it is multiplied by."""

    mean: Singles
    matrix: Singles
    energy: float
    """The part of the sample's variance that is kept."""

    def __call__(self, features: Singles) -> Singles:
        reduced: Singles = np.matmul(features - self.mean, self.matrix, dtype=np.float32)
        return reduced


class Reductions:
    """Makes bases from one sample."""

    def __init__(self, sample: Singles) -> None:
        self._mean: Singles = sample.mean(axis=0)
        centred = sample - self._mean
        began = time.perf_counter()
        covariance = centred.T @ centred / len(centred)
        # Ascending.
        self._variances, self._directions = np.linalg.eigh(covariance)
        self._centred = centred
        self.seconds = round(time.perf_counter() - began, 2)

    def make(self, name: str) -> Reduction:
        """A basis by its name, such as `pca128` or `random256`."""
        kind, dimension = name.rstrip("0123456789"), int(name.lstrip("acdmnopr"))
        rng = np.random.default_rng(0)
        if kind == "random":
            whole = np.linalg.qr(rng.standard_normal((len(self._mean), dimension), dtype=np.float32))[0]
            return Reduction(self._mean, np.ascontiguousarray(whole), self._energy(whole))
        directions = self._directions[:, -dimension:]
        # Rotated, so that codes of equal size carry equal parts.
        rotation = np.linalg.qr(rng.standard_normal((dimension, dimension), dtype=np.float32))[0]
        return Reduction(self._mean, np.ascontiguousarray(directions @ rotation), self._energy(directions))

    def _energy(self, directions: Singles) -> float:
        part = self._centred[:2000]
        return float(np.square(part @ directions).sum() / np.square(part).sum())


def layouts_of(dimension: int, count: int) -> list[str]:
    """The layouts to try, as FAISS's index factory calls them."""
    if dimension > _MOST_DIMENSIONS:
        return ["RaBitQ", "RaBitQfs"]
    nibbles = [number for number in NIBBLES if number <= dimension]
    lists = 2 ** round(math.log2(4 * math.sqrt(count)))
    return ["SQ8", *(f"PQ{number}x4fs" for number in nibbles), "RaBitQ", "RaBitQfs", f"IVF{lists},PQ{nibbles[-1]}x4fs"]


def measure_layout(world: World, layout: str, reduced: Singles, queries: Singles) -> dict[str, Any]:
    """Builds an index and searches it, one query after another on one thread."""
    index: Any = faiss.index_factory(reduced.shape[1], layout, faiss.METRIC_INNER_PRODUCT)
    if layout == "RaBitQ":
        index.qb = 8  # compared as bits; otherwise each code is decoded
    began = time.perf_counter()
    index.train(reduced[:SAMPLE_ROWS])
    index.add(reduced)
    figures: dict[str, Any] = {
        "build_seconds": round(time.perf_counter() - began, 2),
        "index_bytes_an_image": round(len(faiss.serialize_index(index)) / index.ntotal, 1),
    }
    faiss.omp_set_num_threads(1)
    try:
        if not layout.startswith("IVF"):
            return figures | _searched(world, index, queries)
        for probes in PROBES:
            index.nprobe = probes
            figures[f"nprobe_{probes}"] = _searched(world, index, queries)
        return figures
    finally:
        faiss.omp_set_num_threads(cores())


def _searched(world: World, index: Any, queries: Singles) -> dict[str, Any]:
    milliseconds, recall = {}, {}
    wanted = world.true_numbers()
    for count in CANDIDATES:
        index.search(queries[:1], count)
        laps, hits = [], 0
        for query, true in zip(queries, wanted, strict=True):
            began = time.perf_counter()
            found = index.search(query[np.newaxis], count)[1][0]
            laps.append(time.perf_counter() - began)
            hits += min(10, len(true.intersection(found.tolist())))
        milliseconds[str(count)] = round(1000 * percentile(laps, 50), 3)
        recall[str(count)] = round(hits / (10 * len(queries)), 4)
    return {"p50_ms": milliseconds, "recall": recall}


def measure_basis(world: World, reductions: Reductions, name: str) -> dict[str, Any]:
    """All layouts on one basis."""
    began = time.perf_counter()
    reduction = reductions.make(name)
    made = time.perf_counter()
    reduced = np.empty((world.count, reduction.matrix.shape[1]), np.float32)
    for rows, features in zip(blocks(world.count), world.all_features(), strict=True):
        reduced[rows] = reduction(features)
    ended = time.perf_counter()
    queries = reduction(world.queries)
    laps = []
    for query in world.queries:
        lap = time.perf_counter()
        reduction(query)
        laps.append(time.perf_counter() - lap)
    layouts: dict[str, Any] = {}
    for layout in layouts_of(reduced.shape[1], world.count):
        try:
            layouts[layout] = measure_layout(world, layout, reduced, queries)
        except RuntimeError as error:  # FAISS: not every layout suits every number of dimensions
            layouts[layout] = {"impossible": str(error)[:200]}
    return {
        "energy": round(reduction.energy, 4),
        "make_seconds": round(made - began, 2),
        "reduce_all_seconds": round(ended - made, 2),
        "reduce_query_p50_ms": round(1000 * percentile(laps, 50), 3),
        "layouts": layouts,
    }


def enough(bases: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that find enough with few candidates, the fastest first."""
    found = []
    for basis, figures in bases.items():
        for layout, one in figures["layouts"].items():
            ways = {layout: one} | {f"{layout},{key}": way for key, way in one.items() if key.startswith("nprobe")}
            for way, measures in ways.items():
                reached = [
                    count
                    for count in CANDIDATES
                    if count <= ENOUGH_CANDIDATES and measures.get("recall", {}).get(str(count), 0) >= ENOUGH_RECALL
                ]
                if reached:
                    found.append(
                        {
                            "basis": basis,
                            "layout": way,
                            "index_bytes_an_image": one["index_bytes_an_image"],
                            "candidates": reached[0],
                            "recall": measures["recall"][str(reached[0])],
                            "p50_ms": measures["p50_ms"][str(reached[0])],
                        }
                    )
    return sorted(found, key=lambda item: item["p50_ms"])


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000, help="images in the index")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--bases", default=",".join(BASES))
    parser.add_argument("--cache", type=Path, help="a folder where the features are kept for the next run")
    options = parser.parse_args()
    noise = Noise()
    bases: dict[str, Any] = {}
    with kept_or_temporary(options.cache) as folder:
        source = MadeFeatures(options.size)
        world = World(folder / f"world-{source.name}", source, options.queries)
        sample = np.concatenate([part[:: max(1, world.count // SAMPLE_ROWS)] for part in world.all_features()])
        reductions = Reductions(sample)
        for name in options.bases.split(","):
            bases[name] = measure_basis(world, reductions, name)
    result = {
        f"recall_{ENOUGH_RECALL}_with_{ENOUGH_CANDIDATES}_candidates": enough(bases),
        "size": options.size,
        "queries": options.queries,
        "principal_components_seconds": reductions.seconds,
        "bases": bases,
        "noise": noise.report(),
        "machine": machine(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
