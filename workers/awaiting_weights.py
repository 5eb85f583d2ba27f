"""Waits for the model's weights, and says meanwhile how that goes. Before any process loads the model."""

from __future__ import annotations

import logging
import time

from common.errors import WeightsUnavailable
from common.presence import PresenceReporter
from common.redis_client import connect
from common.settings import Settings
from common.weights import WeightsStatus, resolve_weights

logger = logging.getLogger(__name__)

RETRY_SECONDS = 30.0


def await_weights(settings: Settings, queues: list[str], *, wait: bool) -> WeightsStatus:
    """Makes sure of the weights before any process loads the model, and reports how that goes.

    Args:
        settings: The settings.
        queues: The queues, for the report.
        wait: Whether to try again until what is missing is there, instead of raising: under a supervisor that
            restarts what ends, ending would only make a loop.

    Raises:
        WeightsUnavailable: They cannot be had, and `wait` is off.
    """
    facts = {"state": "loading", "detail": "looking for the model's weights"}

    def downloading(received: int, total: int) -> None:
        of_all = f" of {total / 1e6:.0f}" if total else ""
        facts.update(state="loading", detail=f"downloading the model's weights: {received / 1e6:.0f}{of_all} MB")

    reporter = PresenceReporter(connect(settings), queues, lambda: dict(facts))
    reporter.start()
    try:
        while True:
            try:
                return resolve_weights(settings, downloading)
            except WeightsUnavailable as error:
                if not wait:
                    raise
                if str(error) != facts["detail"]:
                    logger.error("Waiting for the model's weights. %s", error)
                facts.update(state="waiting", detail=str(error))
                time.sleep(RETRY_SECONDS)
    finally:
        reporter.stop()
