"""Searches for near-duplicates in the whole collection."""

from __future__ import annotations

from apiflask import APIBlueprint

from common.duplicates import DuplicatePage
from common.errors import UnknownDuplicateJob
from web.api.inputs import DuplicateAccepted, DuplicateQuery, DuplicateRequest, is_id
from web.documented import responses
from web.security import guard_changes
from web.services import services

blueprint = APIBlueprint("duplicate_jobs", __name__, tag="Duplicates")
blueprint.before_request(guard_changes)


@blueprint.post("/duplicate-jobs")
@blueprint.input(DuplicateRequest)
@blueprint.output(DuplicateAccepted, status_code=202, description="Taken; the job's state is at `url`.")
@blueprint.doc(
    security="token",
    responses=responses(
        {
            400: "The body is no JSON.",
            401: "The token is missing or wrong.",
            415: "Not JSON.",
            422: "A value cannot be used.",
            503: "Redis is away.",
        }
    ),
)
def create_duplicate_job(json_data: DuplicateRequest) -> tuple[DuplicateAccepted, int, dict[str, str]]:
    """Look for near-duplicates

    In the whole collection or in a folder. A maintenance worker does it; it takes minutes for a large collection.
    """
    job = services().client.submit_duplicate_job(json_data.min_score, json_data.folder)
    accepted = DuplicateAccepted(id=job.id, state=job.state, url=f"/api/v1/duplicate-jobs/{job.id}")
    return accepted, 202, {"Location": accepted.url}


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
