"""What became of the files that were indexed, and how long the stages of batches took: counted in Redis.

Counts what the workers did. A batch that is repeated after an accident counts twice here, and once in its job.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import redis

from common.histograms import Histogram, Scale, add
from common.redis_client import key

KEY = key("metrics", "indexing")
STAGES: Mapping[str, str] = {
    "read": "reading and hashing the files, summed over the threads",
    "decode": "from bytes to pixels and thumbnail, summed over the threads",
    "wait": "the network waits for pictures",
    "embed": "passes of the network",
    "publish": "writing the segment",
    "total": "the whole batch",
}
"""The stages of a batch; reading and decoding go on while the network runs."""
OUTCOMES = ("embedded", "duplicate", "failed")
_SCALE = Scale((0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0))
_IMAGES, _FAILED = "images:", "failed-of:"


@dataclass(frozen=True)
class IndexMetrics:
    """All that was counted.

    Attributes:
        images: Files by what became of them.
        failed: Files that could not be indexed, by the kind of the error.
        stages: Histograms of batches by stage.
    """

    images: dict[str, int]
    failed: dict[str, int]
    stages: dict[str, Histogram]


def count(
    client: redis.Redis,
    *,
    embedded: int = 0,
    duplicates: int = 0,
    failed: Mapping[str, int] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> None:
    """Counts a batch, or files that failed before they were in one.

    Args:
        client: Redis.
        embedded: Files that went through the network.
        duplicates: Files whose content was stored already.
        failed: How many failed, by the kind of the error: of a few kinds, and nothing that a file says.
        seconds: What the batch took, by stage.
    """
    failed = failed or {}
    found = dict(
        zip((f"{_IMAGES}{name}" for name in OUTCOMES), (embedded, duplicates, sum(failed.values())), strict=True)
    )
    found |= {f"{_FAILED}{reason}": number for reason, number in failed.items()}
    for stage, took in (seconds or {}).items():
        found |= _SCALE.increments(stage, took)
    # A number for a diagram is not worth a failed batch.
    with suppress(redis.RedisError), client.pipeline() as pipe:
        add(pipe, KEY, {field: amount for field, amount in found.items() if amount})
        pipe.execute()


def read(client: redis.Redis) -> IndexMetrics:
    """Everything counted so far; zeros for what has never happened."""
    stored = cast("dict[bytes, bytes]", client.hgetall(KEY))
    values = {name.decode(): int(value) for name, value in stored.items()}
    return IndexMetrics(
        images={name: values.get(f"{_IMAGES}{name}", 0) for name in OUTCOMES},
        failed={n.removeprefix(_FAILED): value for n, value in sorted(values.items()) if n.startswith(_FAILED)},
        stages={stage: _SCALE.histogram(stage, values) for stage in STAGES},
    )
