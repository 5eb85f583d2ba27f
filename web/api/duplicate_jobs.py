"""Searches for near-duplicates in the whole collection."""

from __future__ import annotations

from typing import Any, cast

from apiflask import APIBlueprint

from common.duplicates import DuplicateJob, DuplicatePage
from common.errors import UnknownDuplicateJob
from common.ids import is_id
from web.api.inputs import DuplicateAccepted, DuplicateQuery, DuplicateRequest
from web.documented import responses
from web.idempotency import REFUSED_KEY, STILL_HANDLED, IdempotencyHeader, idempotent
from web.limits import TOO_MANY, limited
from web.security import guard_changes, require_object
from web.services import services

blueprint = APIBlueprint("duplicate_jobs", __name__, tag="Duplicates")
blueprint.before_request(guard_changes)


@blueprint.post("/duplicate-jobs")
@blueprint.input(IdempotencyHeader, location="headers")
@blueprint.input(DuplicateRequest)
@blueprint.output(DuplicateAccepted, status_code=202, description="Taken; the job's state is at `url`.")
@blueprint.doc(
    security="token",
    responses=responses(
        {
            400: "The body is no JSON.",
            401: "The token is missing or wrong.",
            409: STILL_HANDLED,
            415: "Not JSON.",
            422: f"A value cannot be used. {REFUSED_KEY}",
            429: TOO_MANY,
            503: "Redis is away.",
        }
    ),
)
@idempotent
@limited("job")
def create_duplicate_job(json_data: DuplicateRequest) -> tuple[DuplicateAccepted, int, dict[str, str]]:
    """Look for near-duplicates

    In the whole collection or in a folder. A maintenance worker does it; it takes minutes for a large collection.
    """
    require_object()
    job = services().client.submit_duplicate_job(json_data.min_score, json_data.folder)
    accepted = DuplicateAccepted(id=job.id, state=job.state, url=f"/api/v1/duplicate-jobs/{job.id}")
    return accepted, 202, {"Location": accepted.url}


@blueprint.get("/duplicate-jobs")
@blueprint.output(cast(Any, list[DuplicateJob]))
@blueprint.doc(responses=responses({503: "Redis is away."}))
def list_duplicate_jobs() -> list[DuplicateJob]:
    """The latest searches for near-duplicates, newest first

    Those whose groups are kept.
    """
    return services().client.duplicate_jobs()


@blueprint.get("/duplicate-jobs/<job_id>")
@blueprint.input(DuplicateQuery, location="query")
@blueprint.output(DuplicatePage)
@blueprint.doc(
    responses=responses(
        {404: "Unknown, or expired.", 422: "A value cannot be used, or not a cursor.", 503: "Redis is away."}
    )
)
def get_duplicate_job(job_id: str, query_data: DuplicateQuery) -> DuplicatePage:
    """State of a search for near-duplicates, and its groups

    The largest groups come first, of those of the same size the ones with the most similar pair. Pass `next_cursor`
    as `cursor` to get the next groups.
    """
    if not is_id(job_id):
        raise UnknownDuplicateJob
    return services().client.duplicates(job_id, query_data.cursor, query_data.limit)
