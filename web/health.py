"""Health checks and metrics, for machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from apiflask import APIBlueprint
from flask import Response
from pydantic import Field

from common.errors import ImageSearchError, ModelNotReady, ServiceUnavailable
from common.messages import Message
from common.redis_client import reported
from web.documented import responses
from web.metrics import CONTENT_TYPE, exposition
from web.services import Services, ready_workers, services

blueprint = APIBlueprint("health", __name__, tag="System")


class Health(Message):
    """The web tier answers."""

    status: str = "ok"


class Readiness(Message):
    """Whether searches can be answered, and if not, what is missing."""

    ready: bool
    checks: dict[str, bool] = Field(description="redis, store and query_worker: whether each is there")
    problems: dict[str, str] = Field(default_factory=dict, description="what to do about those that are not")


@blueprint.get("/healthz")
@blueprint.output(Health)
def healthz() -> Health:
    """Liveness

    Whether the web tier answers.
    """
    return Health()


@blueprint.get("/readyz")
@blueprint.output(Readiness)
@blueprint.doc(
    responses=responses(
        {
            503: {
                "description": "Something is missing.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Readiness"}}},
            }
        }
    )
)
def readyz() -> tuple[Readiness, int]:
    """Readiness

    Whether searches can be answered: Redis, the store and a query worker are there.
    """
    current = services()
    problems = dict(
        _problems({"redis": _check_redis, "store": _check_store, "query_worker": _check_query_worker}, current)
    )
    checks = {name: name not in problems for name in ("redis", "store", "query_worker")}
    return Readiness(ready=not problems, checks=checks, problems=problems), 503 if problems else 200


@blueprint.get("/metrics")
@blueprint.doc(responses=responses({200: {"description": "The metrics.", "content": {"text/plain": {}}}}))
def metrics() -> Response:
    """Metrics

    In the text format of Prometheus.
    """
    return Response(exposition(), content_type=CONTENT_TYPE)


def _problems(checks: dict[str, Callable[[Services], None]], current: Services) -> Iterable[tuple[str, str]]:
    for name, check in checks.items():
        try:
            check(current)
        except ImageSearchError as error:
            yield name, str(error)
        except OSError as error:
            yield name, f"The data folder cannot be used: {error}"


def _check_redis(current: Services) -> None:
    with reported(current.settings):
        current.client.redis.ping()


def _check_store(current: Services) -> None:
    if current.collection.store() is None:
        raise ModelNotReady


def _check_query_worker(current: Services) -> None:
    if not ready_workers(current.client.workers()):
        raise ServiceUnavailable("No query worker is ready: start one with `imagesearch worker --queues query`.")
