"""Measures the product's ranker on one world."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.made_features import MadeFeatures, Source
from benchmarks.measuring import cores, percentile, repeated
from benchmarks.ranking_peers import measured, numbers_by
from benchmarks.ranking_process import is_indexed, opened_and_indexed, start_ranking
from benchmarks.ranking_world import RARE_FOLDER, TOLERANCE, Singles, World, is_rare, number_of
from common.ranking import Ranker
from common.ranking.two_stage import TwoStageRanker
from common.settings import Settings
from common.store import FeatureStore, open_store

ADDED_IMAGES = 10_000
_ADDED_SECONDS = 120.0


class ProductBench:
    """The measurements of one world.

    Args:
        world: What is searched.
        settings: A copy of it.
        options: The command line.
    """

    def __init__(self, world: World, settings: Settings, options: Any) -> None:
        self._world = world
        self._settings = settings
        self._options = options
        self._threads = options.threads or cores()

    def run(self) -> dict[str, Any]:
        """Measures everything; images are added last."""
        figures: dict[str, Any] = {"threads": self._threads, "build": self._build(), "start": self._start()}
        figures["disk"] = self._disk()
        options = self._options
        ranker = opened_and_indexed(self._settings, self._threads)
        for k in (10, 30):
            figures[f"k_{k}"] = measured(
                numbers_by(ranker), self._world, k=k, rounds=options.rounds, warm_up=len(self._world.warm_up)
            )
        figures["clients"] = {
            str(clients): self._many(ranker, clients) for clients in map(int, options.clients.split(","))
        }
        figures["folder"] = self._folder(ranker)
        if isinstance(self._world.source, MadeFeatures):
            figures["adding"] = self._adding(ranker)
        return figures

    def _build(self) -> dict[str, Any]:
        """The first start, which has to train and to encode."""
        process, seconds = start_ranking(self._settings, self._saved_queries(), self._threads, "build")
        with process:
            return {"seconds": round(seconds, 2), **process.greeting}

    def _start(self) -> dict[str, Any]:
        """Later starts, from what the first one saved."""
        each, answers = [], {}
        for _ in range(self._options.starts):
            process, seconds = start_ranking(self._settings, self._saved_queries(), self._threads)
            with process:
                each.append(seconds)
                answers = process.ask(k=10)
        return {
            "ready_seconds": repeated(each),
            "at_first_query": process.greeting,
            f"after_{len(self._world.queries)}_queries": answers,
        }

    def _saved_queries(self) -> Path:
        path = self._settings.data_dir.parent / "queries.npy"
        if not path.exists():
            np.save(path, self._world.queries)
        return path

    def _disk(self) -> dict[str, float]:
        """KiB an image: the segments, which have no thumbnails here, the catalog, and what ranking derives."""
        store = open_store(self._settings)
        parts = {"features_and_records": 0, "catalog": 0, "candidates": 0}
        for folder in (store.path, store.cache_path):
            for path in folder.rglob("*"):
                if path.is_file():
                    size = path.stat().st_size
                    is_segment = path.is_relative_to(store.segments_path)
                    is_catalog = path.name.startswith("catalog")
                    parts["features_and_records" if is_segment else "catalog" if is_catalog else "candidates"] += size
        kib = {name: round(size / 1024 / self._world.count, 4) for name, size in parts.items()}
        return kib | {"all": round(sum(kib.values()), 4)}

    def _many(self, ranker: Ranker, clients: int) -> dict[str, Any]:
        """Clients that search one query after another, all at once."""
        queries = self._world.queries
        began = time.perf_counter()
        deadline = began + self._options.seconds

        def client(number: int) -> list[float]:
            laps: list[float] = []
            for turn in count(number * len(queries) // clients):
                lap = time.perf_counter()
                if lap > deadline:
                    break
                ranker.search(queries[turn % len(queries)], 10)
                laps.append(time.perf_counter() - lap)
            return laps

        with ThreadPoolExecutor(clients) as pool:
            laps = [lap for each in pool.map(client, range(clients)) for lap in each]
        seconds = time.perf_counter() - began
        return {
            "queries_per_second": round(len(laps) / seconds, 1),
            "p50_ms": round(1000 * percentile(laps, 50), 2),
            "p95_ms": round(1000 * percentile(laps, 95), 2),
        }

    def _folder(self, ranker: Ranker) -> dict[str, Any]:
        """Searches in the folder of one image in 10,000."""
        world = self._world
        inside = [number for number in range(world.count) if is_rare(number)]
        features = world.features(inside)
        laps, right = [], 0
        for query in world.queries:
            began = time.perf_counter()
            matches = ranker.search(query, 10, folder=RARE_FOLDER)
            laps.append(time.perf_counter() - began)
            true = np.sort(features @ query)[::-1][:10]
            found = np.array([match.score for match in matches])
            right += (
                len(found) == len(true)
                and {number_of(match.entry.path) for match in matches} <= set(inside)
                and bool((np.abs(found - true) <= TOLERANCE).all())
            )
        return {
            "images": len(inside),
            "right_answers": round(right / len(world.queries), 4),
            "p50_ms": round(1000 * percentile(laps, 50), 3),
            "p95_ms": round(1000 * percentile(laps, 95), 3),
        }

    def _adding(self, ranker: TwoStageRanker) -> dict[str, Any]:
        """Publishes images, again and again, and searches for one of them until it is found."""
        store = open_store(self._settings)
        rounds = [self._add(ranker, store, batch) for batch in range(self._options.additions)]
        columns = {name: [one[name] for one in rounds] for name in rounds[0]}
        after = [self._timed(ranker, query) for query in self._world.queries]
        return {
            "images": ADDED_IMAGES,
            **{name: repeated(values, digits=3) for name, values in columns.items()},
            "p50_ms_afterwards": round(1000 * percentile(after, 50), 3),
        }

    def _add(self, ranker: TwoStageRanker, store: FeatureStore, batch: int) -> dict[str, float]:
        source = self._world.source
        assert isinstance(source, MadeFeatures)
        features = source.more(ADDED_IMAGES, batch)
        wanted = self._world.count + batch * ADDED_IMAGES
        began = time.perf_counter()
        self._world.publish(store, f"more-{batch:05}", features, wanted)
        published = time.perf_counter()
        while not any(number_of(match.entry.path) == wanted for match in ranker.search(features[0], 10)):
            if time.perf_counter() - published > _ADDED_SECONDS:
                raise TimeoutError("an added image is not found")
        found = time.perf_counter()
        # Until it is encoded it is compared exactly: what do the searches of that time cost?
        meanwhile = [0.0]
        while not is_indexed(ranker):
            meanwhile.append(self._timed(ranker, self._world.queries[len(meanwhile) % len(self._world.queries)]))
        return {
            "publish_seconds": published - began,
            "searchable_seconds": found - published,
            "encoded_seconds": time.perf_counter() - published,
            "slowest_search_meanwhile_seconds": max(meanwhile),
        }

    def _timed(self, ranker: Ranker, query: Singles) -> float:
        began = time.perf_counter()
        ranker.search(query, 10)
        return time.perf_counter() - began


def measure_product(world: World, options: Any) -> dict[str, Any]:
    """The product's ranker on a copy of a world, in a process of its own: what it does in the background ends then."""
    with world.copy() as settings, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_figures, world.folder, world.source, settings, options).result()


def _figures(folder: Path, source: Source, settings: Settings, options: Any) -> dict[str, Any]:
    return ProductBench(World(folder, source, options.queries), settings, options).run()
