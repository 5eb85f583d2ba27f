"""This worker's share of the processor, for everything that starts threads.

The libraries that multiply matrices take a thread for every core they see, in every process. The first limit
is set before any of them is imported, from what the process may use at all; the share, which depends on the workers
that are there, is known a moment later and given to the model.

A share is kept until the process ends, since TensorFlow cannot change its threads any more. So a worker that was
started before others has more than they, until it is started again.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import redis

from common.celery_app import QUEUES
from common.cores import available_cores, core_pools, fair_share
from common.messages import WorkerInfo
from common.presence import PresenceReporter, live_workers, process_is_gone
from common.settings import Settings

if TYPE_CHECKING:
    from collections.abc import MutableMapping

logger = logging.getLogger(__name__)

# Read by NumPy's BLAS and by TensorFlow when they are imported, never again.
VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
# Workers that are started together have all reported by then. Importing TensorFlow takes longer: ask after that.
SETTLE_SECONDS = 2.0
REDIS_ATTEMPTS = 10


def processes() -> int:
    """The processes of this worker that run the model, as `imagesearch worker` was told."""
    return int(os.environ.get("IMAGESEARCH_WORKER_PROCESSES", "1"))


def limit_libraries(settings: Settings, environ: MutableMapping[str, str]) -> None:
    """Limits the threads of libraries that are not imported yet, except where the user has.

    Args:
        settings: `threads` wins over what is found out.
        environ: The environment of the process that will import them.
    """
    threads = settings.threads or max(1, available_cores() // processes())
    for variable in VARIABLES:
        environ.setdefault(variable, str(threads))


def share_of_cores(settings: Settings, client: redis.Redis, presence: PresenceReporter) -> int:
    """The threads that the model of this process should have.

    Those of one role divide the cores. Workers of other roles do not count: bulk workers use what a query leaves.

    Args:
        settings: `threads` wins over what is found out.
        client: Asked for the other workers.
        presence: This process's own, started.
    """
    if settings.threads:
        return settings.threads
    for _ in range(REDIS_ATTEMPTS):
        try:
            presence.report()  # the others must see this one before it looks for them
            time.sleep(max(0.0, presence.started_at + SETTLE_SECONDS - time.monotonic()))
            others = [worker.cpu_pools for worker in live_workers(client) if _shares_with(worker, presence)]
            break
        except redis.RedisError:  # still starting, say
            time.sleep(1)
    else:
        logger.warning("Redis is away or full: other workers of this machine are not known, and the cores not divided.")
        others = []
    return fair_share(core_pools(), others, processes())


def _shares_with(worker: WorkerInfo, presence: PresenceReporter) -> bool:
    role = next(queue for queue in QUEUES if queue in presence.queues)
    # One that waits for weights is the parent of those that will share.
    is_other = worker.name != presence.name and role in worker.queues and worker.state != "waiting"
    return is_other and not process_is_gone(worker)
