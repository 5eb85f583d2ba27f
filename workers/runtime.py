"""What one worker process holds: made once, of parts that are passed in everywhere else.

Everything heavy (TensorFlow, HDF5) is imported here inside functions, because the parent of a prefork pool must
not touch it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import AbstractContextManager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import redis
from kombu.exceptions import OperationalError

from common import log_context, stage_metrics
from common.celery_app import BULK, MAINTENANCE, QUERY, TRAIN_CANDIDATES
from common.episodes import Episodes
from common.errors import ImageSearchError, ModelNotReady, RedisRefuses
from common.library import Library
from common.presence import REPORT_SECONDS, PresenceReporter, live_workers
from common.progress import JobBoard
from common.redis_client import connect, own_error
from common.searches import SearchBoard
from common.settings import Settings
from common.storage import StorageWatch
from common.weights import resolve_weights
from workers.activity import Activity
from workers.drain import Unfinished
from workers.health import Health
from workers.heap import Heap
from workers.leases import Leases
from workers.threads import share_of_cores

if TYPE_CHECKING:
    from celery import Celery

    from common.ranking import Ranker
    from common.store import FeatureStore
    from workers.decoders.pool import DecoderPool
    from workers.extractor import FeatureExtractor
    from workers.indexing import BatchIndexer
    from workers.planning import Planner
    from workers.previews import PreviewMaker
    from workers.searching import SearchEngine

logger = logging.getLogger(__name__)

# How often a maintenance worker looks for segments that have been replaced long enough ago.
CLEANING_SECONDS = 600.0
# What is wrong with Redis, a disk or the store says so in its text.
EXPECTED = (ImageSearchError, OSError, sqlite3.OperationalError, OperationalError)


class Runtime:
    """The parts of a worker process. Heavy ones are made on first use.

    Args:
        settings: The settings.
        celery: Sends follow-up tasks.
        queues: The queues this process serves.
    """

    def __init__(self, settings: Settings, celery: Celery, queues: list[str]) -> None:
        self.settings = settings
        self.celery = celery
        self.queues = queues
        self.redis = connect(settings, patient=True)
        self.library = Library(settings.library_roots)
        self.jobs = JobBoard(self.redis)
        self.searches = SearchBoard.of(settings, self.redis)
        self.activity = Activity()
        self.heap = Heap()
        self.storage = StorageWatch(settings.data_dir)
        self.unfinished = Unfinished()
        self.background: set[threading.Thread] = set()
        # Calm for as long as Redis takes to be full again, or a disk.
        self._episodes = Episodes(logger, calm_seconds=5 * REPORT_SECONDS)
        self._last_tick = self._quiet_until = self._next_cleaning = time.monotonic()
        self._state: dict[str, Any] = {"state": "loading"}
        # A client of its own, which is not patient: it tells how Redis is.
        self.presence = PresenceReporter(connect(settings), queues, self._facts, self._tick)
        self.health = Health(self.presence.name, queues, self.activity, self.storage, settings)
        self.leases = Leases(self.jobs.work, self.presence.name, self.unfinished, self._send_item)

    # --- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Loads what the queues need, reporting meanwhile, and is ready for tasks when it returns."""
        with suppress(OSError):  # else what looks at the storage says it
            self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.presence.start()
        if QUERY in self.queues:
            _ = self.engine, self.previews
            self.decoders.prepare()
        elif BULK in self.queues:
            _ = self.indexer
        if QUERY in self.queues or BULK in self.queues:
            _ = self.threads
        self._state = {"state": "idle"}
        with suppress(redis.RedisError):  # else the next report says it
            self.presence.report()
        if QUERY in self.queues:
            self.engine.embedder.warm_up()

    def finish(self, seconds: float) -> None:
        """Ends what goes on beside the tasks: waits so long for it, and gives back what it has not finished then."""
        deadline = time.monotonic() + seconds
        for thread in list(self.background):
            thread.join(max(0.0, deadline - time.monotonic()))
        self.unfinished.give_back()
        if "engine" in self.__dict__:
            self.engine.embedder.close(max(0.0, deadline - time.monotonic()))
        self.presence.stop()
        if "decoders" in self.__dict__:
            self.decoders.close()

    def leased(self, job_id: str, item: str) -> AbstractContextManager[int]:
        """Holds an item of work while the block runs; see `Leases.item`."""
        return self.leases.item(job_id, item)

    def _send_item(self, job_id: str, item: str) -> None:
        from workers.batches import send_item

        send_item(self, job_id, item)

    def _tick(self, problem: redis.RedisError | None) -> None:
        """Every few seconds, in the thread that reports presence: whatever happens, that must go on."""
        self.heap.tidy()
        self._note("Redis", problem)
        if problem is not None:
            return
        failure: Exception | None = None
        try:
            self._look_after_jobs()
            self._look_after_store()
        except Exception as error:  # noqa: BLE001 - it is noted
            failure = error
        self._note("looking after the jobs and the store", failure)

    def _look_after_jobs(self) -> None:
        self.leases.look_after()
        now = time.monotonic()
        if now - self._last_tick > 3 * REPORT_SECONDS:
            # Redis was away or took nothing, or the computer was asleep: the other workers renew their leases first.
            self._quiet_until = now + 2 * REPORT_SECONDS
        self._last_tick = now
        if BULK in self.queues and self._state["state"] == "idle" and now >= self._quiet_until:
            from workers.batches import keep_going

            keep_going(self)

    def _look_after_store(self) -> None:
        now = time.monotonic()
        if MAINTENANCE in self.queues and now >= self._next_cleaning:
            self._next_cleaning = now + CLEANING_SECONDS
            self._clean()
        if "engine" in self.__dict__:
            # Before anybody searches: the first result of a new collection should know its percentile.
            self.engine.calibrate()

    def _note(self, name: str, error: Exception | None) -> None:
        """Logs a trouble when it begins and when it is over; with a traceback, if it is none that is known."""
        known = own_error(error, self.settings) if isinstance(error, redis.RedisError) else error
        unexpected = None if isinstance(known, EXPECTED) else error
        told = None if error is None else str(known or error).removeprefix(f"{name} ")
        # What differs in other texts, such as the number of an error, makes no other trouble.
        kind = told if isinstance(known, RedisRefuses) else type(known or error).__name__
        self._episodes.note(name, told, kind=kind, error=unexpected)

    def _clean(self) -> None:
        from common.store import remove_replaced

        with suppress(ModelNotReady):  # there is no store yet
            remove_replaced(self.store)

    def _facts(self) -> dict[str, Any]:
        facts = dict(self._state)
        if (self.activity.running or self.leases) and facts["state"] == "idle":
            facts["state"] = "busy"
        facts |= self.health.facts()
        facts["threads"] = self.__dict__.get("threads")
        extractor = self.__dict__.get("extractor")
        if extractor is not None:
            facts["model"] = extractor.spec.name
            facts["fingerprint"] = extractor.spec.fingerprint
            facts["precision"] = extractor.precision
            facts["images_per_second"] = round(extractor.images_per_second, 1)
        return facts

    # --- parts -----------------------------------------------------------------------------------------------

    @cached_property
    def threads(self) -> int:
        """Threads for the model: this process's share of the cores. Asked for late, when the others have reported."""
        return share_of_cores(self.settings, self.redis, self.presence)

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """The model, loaded and warm."""
        from workers.extractor import load_extractor

        def say(detail: str) -> None:
            logger.info("%s", detail)
            self._state = {"state": "loading", "detail": detail}

        return load_extractor(self.settings, resolve_weights(self.settings), threads=lambda: self.threads, say=say)

    @cached_property
    def model_store(self) -> FeatureStore:
        """The store of the model that this process runs; announced to the other tiers."""
        from common.models import publish_model
        from common.store import open_store

        store = open_store(self.settings, self.extractor.spec)
        publish_model(self.settings, self.extractor.spec)
        return store

    @property
    def store(self) -> FeatureStore:
        """The store of this process's model, or for a worker without one of the model that is in use."""
        if BULK in self.queues or QUERY in self.queues:
            return self.model_store
        from common.store import open_store

        return open_store(self.settings)

    @cached_property
    def decoders(self) -> DecoderPool:
        """The processes that decode pictures, started when they are needed."""
        from workers.decoders.pool import pool_for_files, pool_for_queries

        make = pool_for_queries if QUERY in self.queues else pool_for_files
        return make(self.settings, self.extractor.spec.input_size, self.threads)

    @cached_property
    def indexer(self) -> BatchIndexer:
        """Indexes batches."""
        from workers.decoding import FileReader
        from workers.indexing import BatchIndexer

        store = self.model_store
        decoder, threads = self.decoders.for_files(self.settings), self.decoders.processes
        reader = FileReader(self.library, decoder, store.has_content, threads=threads)
        return BatchIndexer(self.extractor, store, reader)

    @cached_property
    def engine(self) -> SearchEngine:
        """Answers searches."""
        from common.ranking.calibration import Calibrator
        from workers.micro_batches import MicroBatcher
        from workers.searching import SearchEngine

        ranker, calibrator = self._ranker(), Calibrator(self.model_store)
        return SearchEngine(
            embedder=MicroBatcher(self.extractor),
            store=self.model_store,
            ranker=ranker,
            calibrator=calibrator,
            library=self.library,
            uploads=self.decoders.for_uploads(self.settings),
            files=self.decoders.for_files(self.settings),
            count_failure=partial(stage_metrics.count_failure, self.redis),
        )

    @cached_property
    def previews(self) -> PreviewMaker:
        """Makes previews of the pictures that were searched for."""
        from workers.previews import PreviewMaker

        return PreviewMaker(self.engine.uploads, self.searches.pictures.keep, self.activity.await_quiet)

    def _ranker(self) -> Ranker:
        from common.ranking.observed import RecallObserver
        from common.ranking.opening import open_ranker
        from common.recall import RecallBoard

        return open_ranker(
            self.settings,
            self.model_store,
            self.threads,
            request_training=lambda: self.send(TRAIN_CANDIDATES),
            observer=RecallObserver(self.model_store, RecallBoard(self.redis)),
        )

    def planner(self) -> Planner:
        """Plans index jobs."""
        from workers.planning import Planner

        return Planner(
            board=self.jobs,
            store=self.store,
            library=self.library,
            data_dir=self.settings.data_dir,
            enqueue=self._enqueue,
        )

    def batch_size(self) -> int:
        """Files in a batch, from what the slowest bulk worker measured."""
        from workers.plan_folder import batch_size

        rates = [w.images_per_second for w in live_workers(self.redis) if BULK in w.queues and w.images_per_second]
        return batch_size(min(rates, default=None), self.settings.batch_seconds)

    def bulk_workers(self) -> int:
        """How many bulk workers are alive."""
        return sum(BULK in worker.queues for worker in live_workers(self.redis))

    def send(self, task: str, *args: str, after_seconds: float | None = None) -> None:
        """Sends a follow-up task."""
        self.celery.send_task(task, args=args, countdown=after_seconds, headers=log_context.task_headers())

    def _enqueue(self, job_id: str, batch: str) -> None:
        from workers.batches import hand_out

        self.jobs.work.add(job_id, [batch])
        hand_out(self, job_id)


_current: Runtime | None = None


def start_runtime(settings: Settings, celery: Celery, queues: list[str]) -> Runtime:
    """Makes this process's runtime and loads what it needs."""
    global _current
    _current = Runtime(settings, celery, queues)
    _current.start()
    return _current


def runtime() -> Runtime:
    """This process's runtime."""
    if _current is None:
        raise RuntimeError(f"process {os.getpid()} was not started as a worker")
    return _current
