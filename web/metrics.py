"""The metrics in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from common.messages import Status
from common.recall import RecallTotals
from common.stage_metrics import QueryMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, float]
"""What follows the name of the metric, labels included, and the value."""


def without_redis() -> str:
    """All that can be said while Redis is away."""
    return _metric("imagesearch_redis_up", "Whether Redis answers.", [("", 0)])


def exposition(status: Status, queries: QueryMetrics, recall: RecallTotals) -> str:
    """All metrics."""
    return "".join((*_gauges(status), *_query_metrics(queries), *_recall_metrics(recall)))


def _gauges(status: Status) -> Iterable[str]:
    workers = Counter(queue for worker in status.workers for queue in worker.queues)
    queues = status.queues.model_dump()
    model = _labels(model=status.model or "", trained=str(bool(status.trained)).lower())
    yield _metric("imagesearch_redis_up", "Whether Redis answers.", [("", 1)])
    yield _metric("imagesearch_images", "Indexed images.", [("", status.images)])
    yield _metric("imagesearch_segments", "Segments of the feature store.", [("", status.segments)])
    yield _metric(
        "imagesearch_queue_length",
        "Tasks that wait.",
        [(_labels(queue=name), length) for name, length in queues.items()],
    )
    yield _metric("imagesearch_workers", "Live workers.", [(_labels(queue=name), workers[name]) for name in queues])
    yield _metric("imagesearch_model_info", "The model in use.", [(model, 1)] if status.model else [])
    yield _metric("imagesearch_build_info", "The software.", [(_labels(version=status.version), 1)])


def _query_metrics(queries: QueryMetrics) -> Iterable[str]:
    yield _metric(
        "imagesearch_queries_total",
        "Searches that a query worker ended, by outcome.",
        [(_labels(state=state), count) for state, count in queries.ended.items()],
        kind="counter",
    )
    samples: list[Sample] = []
    for stage, histogram in queries.stages.items():
        samples += [(f"_bucket{_labels(stage=stage, le=bound)}", count) for bound, count in histogram.buckets.items()]
        samples += [
            (f"_sum{_labels(stage=stage)}", histogram.seconds),
            (f"_count{_labels(stage=stage)}", histogram.count),
        ]
    yield _metric("imagesearch_query_stage_seconds", "Where the time of searches goes.", samples, kind="histogram")


def _recall_metrics(recall: RecallTotals) -> Iterable[str]:
    hits, possible = "The best ten results that sampled searches found.", "The best ten results of sampled searches."
    yield _metric("imagesearch_recall_hits_total", hits, [("", recall.hits)], kind="counter")
    yield _metric("imagesearch_recall_possible_total", possible, [("", recall.possible)], kind="counter")


def _metric(name: str, text: str, samples: Iterable[Sample], kind: str = "gauge") -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *(f"{name}{rest} {value}" for rest, value in samples)]
    return "\n".join(lines) + "\n"


def _labels(**labels: str) -> str:
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
