"""The metrics for Prometheus.

What Redis and the store hold is read anew for each scrape, so every web process of every host says the same of it.
What the web tier counts itself lies in its processes (`HttpMeter`).
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from typing import cast, get_args

import prometheus_client
import redis
from flask import Flask, current_app
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from common import __version__, histograms
from common.errors import ImageSearchError, ServiceUnavailable
from common.index_metrics import IndexMetrics
from common.messages import FINAL_JOB_STATES, JobState, Status, WorkerInfo
from common.stage_metrics import QueryMetrics
from common.status import system_status
from common.store import FeatureStore
from web.processes import shared_folder
from web.services import EXTENSION as SERVICES
from web.services import Services

EXTENSION = "imagesearch.metrics"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# Clients may send any method; each would be a series of its own.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# A client may wait up to 30 s for its result.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 35.0)


class HttpMeter:
    """Counts the requests that this web process answers.

    Args:
        registry: Where its metrics belong; None where the library sums them up over processes.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._requests = Counter(
            "imagesearch_http_requests_total",
            "Requests that were answered, by route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "imagesearch_http_request_seconds",
            "Time until an answer begins; of a request that waits for a result, with the waiting.",
            ("route", "method"),
            buckets=_BOUNDS,
            registry=registry,
        )

    def count(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Counts a request.

        Args:
            route: The pattern of its address; None if there is nothing at it.
            method: The method of HTTP.
            status: The status of the answer.
            seconds: What it took.
        """
        route, method = route or "none", method if method in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)


class SystemCollector(Collector):
    """Reads what all processes have in common.

    Args:
        services: What it reads through.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """All metrics; those of Redis or the store are left out while it cannot be read."""
        store, is_readable = self._store()
        yield _info("imagesearch_build_info", "The software.", {"version": __version__})
        yield _gauge("imagesearch_store_up", "Whether the feature store can be read.", is_readable)
        if is_readable:
            yield from _of_store(store)
        yield from self._of_disk()
        try:
            live = list(self._of_redis(store))
        except (ServiceUnavailable, redis.RedisError):
            live = []
        yield _gauge("imagesearch_redis_up", "Whether Redis answers.", bool(live))
        yield from live
        yield from self._of_jobs()

    def _store(self) -> tuple[FeatureStore | None, bool]:
        try:
            return self._services.collection.store(), True
        except (ImageSearchError, OSError, sqlite3.Error):
            return None, False

    def _of_disk(self) -> Iterator[Metric]:
        try:
            disk = shutil.disk_usage(self._services.settings.data_dir)
        except OSError:
            return
        yield _gauge("imagesearch_data_disk_size_bytes", "Size of the disk with the data folder.", disk.total)
        yield _gauge("imagesearch_data_disk_free_bytes", "What is free on it.", disk.free)

    def _of_redis(self, store: FeatureStore | None) -> Iterator[Metric]:
        client = self._services.client
        status = system_status(client, store)
        yield from _of_model(status)
        yield from _of_queues(status, client.oldest_waiting())
        yield from _of_workers(status.workers)
        kinds = {problem.kind: 1.0 for problem in status.problems}
        yield _gauges("imagesearch_problem", "1 for each kind of thing that is wrong at present.", "kind", kinds)
        yield from _of_searches(client.query_metrics())
        recall = client.recall()
        hits, possible = (
            "The best ten results that sampled searches found.",
            "The best ten results of sampled searches.",
        )
        yield _counter("imagesearch_recall_hits_total", hits, recall.hits)
        yield _counter("imagesearch_recall_possible_total", possible, recall.possible)
        yield from _of_indexing(client.index_metrics())

    def _of_jobs(self) -> Iterator[Metric]:
        try:
            jobs = self._services.client.jobs()
        except (ServiceUnavailable, redis.RedisError, OSError):
            return  # their notes lie in the data folder
        states = Tally(job.state for job in jobs)
        remaining = sum(job.total - job.done - job.failed for job in jobs if job.state not in FINAL_JOB_STATES)
        text = "The latest index jobs, 100 at most, by state."
        yield _gauges("imagesearch_index_jobs", text, "state", {state: states[state] for state in get_args(JobState)})
        yield _gauge("imagesearch_index_files_remaining", "Files of unfinished jobs that still wait.", remaining)


def register(app: Flask) -> None:
    """Makes the metrics of an application."""
    # When a counter began is of no use here, and doubles what is sent.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    folder = shared_folder()
    registry = CollectorRegistry()
    if folder is None:
        meter = HttpMeter(registry)
        ProcessCollector(registry=registry)
    else:
        meter = HttpMeter(None)
        MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    registry.register(SystemCollector(app.extensions[SERVICES]))
    app.extensions[EXTENSION] = registry, meter


def meter_of(app: Flask) -> HttpMeter:
    """What counts the requests of an application."""
    return cast("tuple[CollectorRegistry, HttpMeter]", app.extensions[EXTENSION])[1]


def exposition() -> bytes:
    """All metrics of the current application in the text format of Prometheus."""
    registry, _ = cast("tuple[CollectorRegistry, HttpMeter]", current_app.extensions[EXTENSION])
    return generate_latest(registry)


# --- what is read from where ---------------------------------------------------------------------------------


def _of_store(store: FeatureStore | None) -> Iterator[Metric]:
    segments = store.catalog.segments() if store is not None else []
    images = len(store) if store is not None else 0
    damaged = len(store.damaged) if store is not None else 0
    yield _gauge("imagesearch_images", "Indexed images.", images)
    yield _gauge("imagesearch_segments", "Segments of the feature store.", len(segments))
    yield _gauge("imagesearch_segments_damaged", "Segments that cannot be read.", damaged)
    yield _gauge("imagesearch_store_bytes", "Size of all segments.", sum(segment.size for segment in segments))


def _of_model(status: Status) -> Iterator[Metric]:
    if status.model is not None:
        labels = {
            "model": status.model,
            "precision": status.precision or "",
            "trained": str(bool(status.trained)).lower(),
        }
        yield _info("imagesearch_model_info", "The model in use, and the precision of the searches.", labels)


def _of_queues(status: Status, ages: Mapping[str, float]) -> Iterator[Metric]:
    lengths = status.queues.model_dump()
    workers = Tally(queue for worker in status.workers for queue in worker.queues)
    ready = Tally(queue for worker in status.workers if _is_ready(worker) for queue in worker.queues)
    yield _gauges("imagesearch_queue_length", "Tasks that wait.", "queue", lengths)
    yield _gauges("imagesearch_queue_age_seconds", "How long the task that is next has waited.", "queue", ages)
    yield _gauges("imagesearch_workers", "Live workers.", "queue", {name: workers[name] for name in lengths})
    yield _gauges(
        "imagesearch_workers_ready", "Workers that can work.", "queue", {name: ready[name] for name in lengths}
    )


def _of_workers(workers: Iterable[WorkerInfo]) -> Iterator[Metric]:
    about = ("worker", "host", "queues", "model", "precision")
    info = GaugeMetricFamily("imagesearch_worker_info", "The live workers.", labels=about)
    busy = GaugeMetricFamily("imagesearch_worker_busy", "Whether a worker works on something.", labels=["worker"])
    threads = GaugeMetricFamily("imagesearch_worker_threads", "Threads of its network.", labels=["worker"])
    speed = GaugeMetricFamily(
        "imagesearch_worker_images_per_second", "What its network has measured of itself.", labels=["worker"]
    )
    for worker in workers:
        values = (worker.name, worker.host, ",".join(worker.queues), worker.model or "", worker.precision or "")
        info.add_metric(values, 1)
        busy.add_metric([worker.name], worker.state == "busy")
        if worker.threads is not None:
            threads.add_metric([worker.name], worker.threads)
        if worker.images_per_second is not None:
            speed.add_metric([worker.name], worker.images_per_second)
    yield from (info, busy, threads, speed)


def _of_searches(queries: QueryMetrics) -> Iterator[Metric]:
    yield _counters("imagesearch_queries_total", "Searches that ended, by outcome.", "state", queries.ended)
    text = "Searches that a worker could not answer, by the kind of the error."
    yield _counters("imagesearch_search_failures_total", text, "reason", queries.failed)
    yield _histograms("imagesearch_query_stage_seconds", "Where the time of searches goes.", queries.stages)


def _of_indexing(index: IndexMetrics) -> Iterator[Metric]:
    text = "Files that went through indexing, by what became of them."
    yield _counters("imagesearch_indexed_images_total", text, "outcome", index.images)
    text = "Files that could not be indexed, by the kind of the error."
    yield _counters("imagesearch_index_failures_total", text, "reason", index.failed)
    yield _histograms("imagesearch_batch_stage_seconds", "Where the time of batches goes.", index.stages)


def _is_ready(worker: WorkerInfo) -> bool:
    return worker.state in {"idle", "busy"}


# --- metrics of the library ----------------------------------------------------------------------------------


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _info(name: str, text: str, labels: Mapping[str, str]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=tuple(labels))
    metric.add_metric(tuple(labels.values()), 1)
    return metric


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=[label])
    for value_of_label, value in values.items():
        metric.add_metric([value_of_label], value)
    return metric


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = CounterMetricFamily(name, text, labels=[label])
    for value_of_label, value in values.items():
        metric.add_metric([value_of_label], value)
    return metric


def _histograms(name: str, text: str, stages: Mapping[str, histograms.Histogram]) -> Metric:
    metric = HistogramMetricFamily(name, text, labels=["stage"])
    for stage, histogram in stages.items():
        metric.add_metric([stage], list(histogram.buckets.items()), histogram.seconds)
    return metric
