"""The Celery app as both tiers use it: JSON only, three queues, and settings that survive lost connections."""

from __future__ import annotations

from celery import Celery

from common.redis_client import tls_options
from common.settings import Settings

QUERY, BULK, MAINTENANCE = "query", "bulk", "maintenance"
QUEUES = (QUERY, BULK, MAINTENANCE)

# Tasks are enqueued by name, so that a client never imports the workers' code.
SEARCH = "imagesearch.search"
SCAN = "imagesearch.scan_folder"
INDEX_BATCH = "imagesearch.index_batch"
COMPACT = "imagesearch.compact"
FIND_DUPLICATES = "imagesearch.find_duplicates"
TRAIN_CANDIDATES = "imagesearch.train_candidates"


def make_celery(settings: Settings) -> Celery:
    """Makes the app. Nothing is connected before the first use.

    No result backend: searches and jobs have typed records of their own in Redis, because Celery's `PENDING`
    also means "unknown id".
    """
    app = Celery("imagesearch", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        broker_use_ssl=tls_options(settings) or None,
        accept_content=["json"],
        task_serializer="json",
        result_accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=BULK,
        task_routes={
            SEARCH: {"queue": QUERY},
            SCAN: {"queue": BULK},
            INDEX_BATCH: {"queue": BULK},
            COMPACT: {"queue": MAINTENANCE},
            FIND_DUPLICATES: {"queue": MAINTENANCE},
            TRAIN_CANDIDATES: {"queue": MAINTENANCE},
        },
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        # With it on, prefork workers exit when Redis restarts.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Loading TensorFlow and the model takes longer than the default of 4 s, after which a child is killed; at a
        # low priority on a busy machine, minutes.
        worker_proc_alive_timeout=900,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # What Redis refuses it takes again later: no reason for a worker to end.
        broker_channel_error_retry=True,
        broker_transport_options={
            "visibility_timeout": settings.visibility_timeout_seconds,
            # Without it a publish on a half-open connection waits for ever.
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
        },
        visibility_timeout=settings.visibility_timeout_seconds,
    )
    return app
