"""The state of the whole system."""

from __future__ import annotations

from apiflask import APIBlueprint

from common.messages import Status
from web.documented import responses
from web.services import services

blueprint = APIBlueprint("status", __name__, tag="System")


@blueprint.get("/status")
@blueprint.output(Status)
@blueprint.doc(responses=responses({503: "Redis is away."}))
def get_status() -> Status:
    """Status

    Collection, model, workers and queues at a glance.
    """
    return services().status()
