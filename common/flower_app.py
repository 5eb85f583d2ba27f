"""The Celery app for Flower: `celery -A common.flower_app flower`. It needs no code of the workers."""

from __future__ import annotations

from common.celery_app import make_celery
from common.settings import Settings

app = make_celery(Settings.load())
