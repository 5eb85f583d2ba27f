"""What ranking is measured on: a store of many features, and queries whose true answers are known.

A world is made once and kept; each measurement works on a copy of it that has no candidate index yet. The features
of the copy are the same files by another name (hard links), so it costs neither time nor space.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.made_features import Source, blocks
from benchmarks.measuring import cores
from common.models import publish_model
from common.settings import Settings
from common.store import FeatureStore, ImageRecord, Segment, open_store

ROOT = "made"
# One image in 10,000 is in this folder; the others are in folders of a thousand.
RARE_FOLDER = f"{ROOT}/rare"
RARE_EVERY = 10_000
_FOLDER_IMAGES = 1000
SEGMENT_ROWS = 65_536
WARM_UP_QUERIES = 50
# A result that is as good as the last true one counts, whichever image it is.
TOLERANCE = 1e-6
# Known of each query; a few more are compared in double precision.
TRUE_ANSWERS = 30
_NEAR_ANSWERS = 64

Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """The true answers: (q, 30) scores, best first, and the numbers of the images."""

    scores: Doubles
    numbers: npt.NDArray[np.int64]


class World:
    """A collection of a source's features. Images are counted through; an image's number is in its path.

    Args:
        folder: Where it is, or is made.
        source: The features.
        queries: How many, without those for warming up.
    """

    def __init__(self, folder: Path, source: Source, queries: int) -> None:
        self.folder = folder
        self.source = source
        self.settings = _settings(folder)
        if not (folder / "made.json").exists():
            self._make()
        self.made: dict[str, Any] = json.loads((folder / "made.json").read_text())
        self._segments = [Segment(path) for path in sorted(_segments_path(folder, source).iterdir())]
        held_out = source.held_out(queries + WARM_UP_QUERIES)
        self.queries, self.warm_up = held_out[:queries], held_out[queries:]
        self.truth = self._known_truth()

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.source.count

    def features(self, numbers: Sequence[int]) -> Doubles:
        """The features of some images, L2-normalised in double precision."""
        rows = np.empty((len(numbers), self.source.spec.dimension))
        for place, number in enumerate(numbers):
            rows[place] = self._segments[number // SEGMENT_ROWS].features[number % SEGMENT_ROWS]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    def all_features(self) -> Iterator[Singles]:
        """The features of all images, L2-normalised, some at a time."""
        for segment in self._segments:
            for rows in blocks(segment.count):
                part = segment.features[rows].astype(np.float32)
                yield part / np.linalg.norm(part, axis=1, keepdims=True)

    def recall(self, found: Sequence[Sequence[int]], k: int = 10) -> float:
        """The share of the first queries' `k` results that are as good as the true ones. Ties count.

        Args:
            found: For each query, from the first, the numbers of the images that were found.
            k: How many of them, at most 30.
        """
        wanted = min(k, self.count)
        hits = 0
        for query, numbers, truth in zip(self.queries, found, self.truth.scores, strict=False):
            different = list(dict.fromkeys(numbers[:wanted]))
            scores = self.features(different) @ query
            hits += int((scores >= truth[wanted - 1] - TOLERANCE).sum())
        return hits / (wanted * len(found))

    def true_numbers(self, k: int = 10) -> list[frozenset[int]]:
        """For each query the images that are as good as the `k` best."""
        return [
            frozenset(numbers[scores >= scores[min(k, self.count) - 1] - TOLERANCE].tolist())
            for scores, numbers in zip(self.truth.scores, self.truth.numbers, strict=True)
        ]

    @contextmanager
    def copy(self) -> Iterator[Settings]:
        """Settings with a store of the same images and catalog, but nothing derived for ranking. Gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="run-", dir=self.folder) as name:
            settings = _settings(Path(name))
            publish_model(settings, self.source.spec)
            source, target = _segments_path(self.folder, self.source), _segments_path(Path(name), self.source)
            target.mkdir(parents=True)
            for path in source.iterdir():
                os.link(path, target / path.name)
            shutil.copy(source.parent / "store.json", target.parent)
            shutil.copytree(self.folder / "cache", name + "/cache")
            yield settings

    def publish(self, store: FeatureStore, name: str, features: npt.NDArray[Any], first: int) -> None:
        """Publishes a segment of images with the numbers from `first` on."""
        numbers = range(first, first + len(features))
        store.publish(
            name,
            precision="float32",
            records=[_record(number) for number in numbers],
            features=features,
            thumbnails=[b""] * len(numbers),
        )

    def _make(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        publish_model(self.settings, self.source.spec)
        store = open_store(self.settings)
        began = time.perf_counter()
        # One segment is written while the next is made.
        with ThreadPoolExecutor(1) as writer:
            writing = None
            for rows in blocks(self.count, SEGMENT_ROWS):
                features = self.source.rows(rows.start, rows.stop)
                if writing:
                    writing.result()
                name = f"made-{rows.start // SEGMENT_ROWS:05}"
                writing = writer.submit(self.publish, store, name, features, rows.start)
            if writing:
                writing.result()
        written = time.perf_counter()
        store.refresh()
        figures = {"seconds": round(written - began, 1), "catalog_seconds": round(time.perf_counter() - written, 1)}
        (self.folder / "made.json").write_text(json.dumps(figures))

    def _known_truth(self) -> Truth:
        path = self.folder / f"truth-{len(self.queries)}.npz"
        if not path.exists():
            truth = self._find_truth()
            np.savez(path, scores=truth.scores, numbers=truth.numbers)
        with np.load(path) as stored:
            return Truth(stored["scores"], stored["numbers"])

    def _find_truth(self) -> Truth:
        """Compares every query with every image."""

        def scan(task: tuple[Segment, slice, int]) -> tuple[Singles, npt.NDArray[np.int64]]:
            segment, rows, first = task
            part = segment.features[rows].astype(np.float32)
            scores = self.queries @ part.T / np.linalg.norm(part, axis=1)
            near = _largest(scores, _NEAR_ANSWERS)
            return np.take_along_axis(scores, near, axis=1), near + first

        tasks = [
            (segment, rows, position * SEGMENT_ROWS + rows.start)
            for position, segment in enumerate(self._segments)
            for rows in blocks(segment.count)
        ]
        with ThreadPoolExecutor(cores()) as pool:
            found = list(pool.map(scan, tasks))
        scores = np.concatenate([part for part, _ in found], axis=1)
        numbers = np.concatenate([part for _, part in found], axis=1)
        numbers = np.take_along_axis(numbers, _largest(scores, _NEAR_ANSWERS), axis=1)
        exact = np.stack(
            [self.features(row.tolist()) @ query for row, query in zip(numbers, self.queries, strict=True)]
        )
        order = np.argsort(-exact, axis=1, kind="stable")[:, :TRUE_ANSWERS]
        return Truth(np.take_along_axis(exact, order, axis=1), np.take_along_axis(numbers, order, axis=1))


@contextmanager
def kept_or_temporary(cache: Path | None) -> Iterator[Path]:
    """The folder for worlds: one that is kept, or one that is gone afterwards."""
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        yield cache
        return
    with tempfile.TemporaryDirectory(prefix="imagesearch-ranking-") as name:
        yield Path(name)


def number_of(path: str) -> int:
    """The number of an image."""
    return int(path.rpartition("/")[2].removesuffix(".jpg"))


def is_rare(number: int) -> bool:
    """Whether an image is in the rare folder."""
    return number % RARE_EVERY == RARE_EVERY // 2


def _largest(scores: Singles, count: int) -> npt.NDArray[np.int64]:
    """The positions of the largest values of each row, in any order."""
    count = min(count, scores.shape[1])
    return np.argpartition(scores, scores.shape[1] - count, axis=1)[:, scores.shape[1] - count :]


def _record(number: int) -> ImageRecord:
    folder = "rare" if is_rare(number) else f"{number // _FOLDER_IMAGES:05}"
    return ImageRecord(
        root=ROOT,
        path=f"{folder}/{number:08}.jpg",
        size=100_000 + number,
        mtime_ns=1_700_000_000_000_000_000 + number,
        content_hash=number.to_bytes(32, "big"),
        width=640,
        height=480,
        sequence=1,
    )


def _settings(folder: Path) -> Settings:
    return Settings(data_dir=folder / "data", cache_dir=folder / "cache")


def _segments_path(folder: Path, source: Source) -> Path:
    return source.spec.store_path(folder / "data") / "segments"
