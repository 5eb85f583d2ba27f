"""The store against a plain dictionary, through a long random sequence of changes."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from common.store import compact
from common.store.compaction import KEEP_TOMBSTONES_SECONDS
from tests.unit.helpers import live, make_store, publish, record, segment_file

STEPS = 200
PATHS = [f"p/{folder}/{number}.jpg" for folder in "abc" for number in range(8)]


class Model:
    """What the store promises: for each path, its highest record, unless a higher tombstone ended it."""

    def __init__(self) -> None:
        self.records: dict[str, int] = {}
        self.tombstones: dict[str, int] = {}

    def publish(self, records: dict[str, int], tombstones: dict[str, int]) -> None:
        for path, sequence in records.items():
            self.records[path] = max(sequence, self.records.get(path, 0))
        for path, sequence in tombstones.items():
            self.tombstones[path] = max(sequence, self.tombstones.get(path, 0))

    def live(self) -> dict[str, int]:
        return {path: seq for path, seq in self.records.items() if seq >= self.tombstones.get(path, 0)}


@pytest.mark.parametrize("seed", [1])
def test_the_catalog_is_the_model_at_every_step(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    model, store = Model(), make_store(tmp_path)
    # Half of the sequences are of long ago: their tombstones may be dropped.
    start = time.time_ns() - KEEP_TOMBSTONES_SECONDS * 10**9 - STEPS * 10**9 // 2
    published: list[str] = []
    for step in range(STEPS):
        action = rng.choices(["publish", "publish again", "compact"], [8, 1, 1])[0]
        if action == "publish":
            # Jobs overlap: a later segment may hold older records, within the time that tombstones are kept.
            sequence = start + (step - rng.choice([0, 0, 0, 3])) * 10**9
            records = dict.fromkeys(rng.sample(PATHS, rng.randrange(6)), sequence)
            others = [path for path in PATHS if path not in records]
            tombstones = dict.fromkeys(rng.sample(others, rng.choice([0, 0, 1, 5])), sequence)
            name = f"job{step:04}"
            rows = [record(path, sequence) for path, sequence in records.items()]
            precision = rng.choice(["float32", "float32", "bfloat16"]) if rows else "none"
            if sequence < start + step * 10**9:
                tombstones = {}
            publish(store, name, rows, tombstones, precision)
            model.publish(records, tombstones)
            published.append(name)
        elif action == "publish again" and published:
            name = rng.choice(published)
            if segment_file(store, name).exists():
                publish(store, name, ["p/never/taken.jpg"])
        else:
            compact(store, target_rows=rng.choice([20, 60, 65_536]))
        assert live(store) == model.live(), f"step {step}: {action}"
        assert len(store) == len(model.live())
        if step % 20 == 19:
            assert live(make_store(tmp_path, cache=f"fresh-{step}")) == model.live(), f"step {step}, a fresh catalog"
