"""Health checks and metrics, for machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from apiflask import APIBlueprint
from flask import Response
from pydantic import Field

from common.celery_app import QUERY
from common.errors import ImageSearchError, ModelNotReady, RedisUnavailable, ServiceUnavailable
from common.messages import Message, SystemProblem
from common.problems import local_problems, system_problems
from web.access import may_read
from web.documented import responses
from web.metrics import CONTENT_TYPE, exposition
from web.services import Services, ready_workers, services

blueprint = APIBlueprint("health", __name__, tag="System")


_TOKEN_NEEDED = "What it is, and what to do, is told to those who send the server's token; its log says it, too."


class Health(Message):
    """The web tier answers."""

    status: str = "ok"


class Readiness(Message):
    """Whether searches can be answered, and if not, what is missing."""

    ready: bool
    checks: dict[str, bool] = Field(description="redis, store and query_worker: whether each is there and works")
    problems: dict[str, str] = Field(default_factory=dict, description="what to do about those that are not")
    warnings: dict[str, str] = Field(
        default_factory=dict,
        description="what else is wrong, although searches are answered: the kind of problem, and what to do about it",
    )


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

    Whether searches can be answered: Redis, the store and a query worker are there. What hinders only indexing, or
    makes results incomplete, is a warning: to take the server out of service would help nobody.
    """
    current = services()
    problems = dict(_problems(current))
    checks = {name: name not in problems for name in _CHECKS}
    warnings = {problem.kind: problem.detail for problem in _warnings(current)}
    if not may_read():
        # They name folders, hosts and segments.
        problems, warnings = dict.fromkeys(problems, _TOKEN_NEEDED), dict.fromkeys(warnings, _TOKEN_NEEDED)
    readiness = Readiness(ready=not problems, checks=checks, problems=problems, warnings=warnings)
    return readiness, 503 if problems else 200


@blueprint.get("/metrics")
@blueprint.doc(responses=responses({200: {"description": "The metrics.", "content": {"text/plain": {}}}}))
def metrics() -> Response:
    """Metrics

    In the text format of Prometheus.
    """
    return Response(exposition(), content_type=CONTENT_TYPE)


def _problems(current: Services) -> Iterator[tuple[str, str]]:
    for name, check in _CHECKS.items():
        try:
            check(current)
        except ImageSearchError as error:
            yield name, str(error)


def _warnings(current: Services) -> list[SystemProblem]:
    store = current.collection.store_if_readable()
    try:
        found = system_problems(current.client, store, current.client.workers())
    except RedisUnavailable:
        found = list(local_problems(current.client, store))
    # That Redis refuses is no warning: it is why nothing can be searched for.
    return [problem for problem in found if not problem.kind.startswith("redis-")]


def _check_redis(current: Services) -> None:
    current.client.check_redis()


def _check_store(current: Services) -> None:
    if current.collection.store() is None:
        raise ModelNotReady


def _check_query_worker(current: Services) -> None:
    workers = current.client.workers()
    if ready_workers(workers):
        return
    stuck = [worker.detail for worker in workers if QUERY in worker.queues and worker.state == "stuck"]
    if stuck:
        raise ServiceUnavailable(f"The query worker hangs. {stuck[0]}")
    raise ServiceUnavailable("No query worker is ready: start one with `imagesearch worker --queues query`.")


_CHECKS: dict[str, Callable[[Services], None]] = {
    "redis": _check_redis,
    "store": _check_store,
    "query_worker": _check_query_worker,
}
