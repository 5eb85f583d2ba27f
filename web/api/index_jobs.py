"""Index jobs: folders of the library being taken into the collection."""

from __future__ import annotations

import csv
import io
from typing import Any, cast

from apiflask import APIBlueprint
from flask import Response

from common.errors import UnknownJob
from common.ids import is_id
from common.messages import FileError, IndexJob
from web.api.inputs import ErrorsQuery, IndexRequest, JobAccepted
from web.documented import responses
from web.idempotency import REFUSED_KEY, STILL_HANDLED, IdempotencyHeader, idempotent
from web.limits import TOO_MANY, limited
from web.security import guard_changes
from web.services import services

blueprint = APIBlueprint("index_jobs", __name__, tag="Index jobs")
blueprint.before_request(guard_changes)

_NOT_ALLOWED = {401: "The token is missing or wrong.", 415: "Not JSON.", 503: "Redis is away."}
_NO_JOB = {404: "No such job."}
_CONTROL = {**_NO_JOB, 409: "The job's state does not allow it.", **_NOT_ALLOWED}


@blueprint.post("/index-jobs")
@blueprint.input(IdempotencyHeader, location="headers")
@blueprint.input(IndexRequest)
@blueprint.output(JobAccepted, status_code=202, description="Taken; the job's state is at `url`.")
@blueprint.doc(
    security="token",
    responses=responses(
        {
            400: "The body is no JSON.",
            409: STILL_HANDLED,
            422: f"No folder that can be indexed. {REFUSED_KEY}",
            429: TOO_MANY,
            **_NOT_ALLOWED,
        }
    ),
)
@idempotent
@limited("job")
def create_job(json_data: IndexRequest) -> tuple[JobAccepted, int, dict[str, str]]:
    """Index a folder

    New and changed pictures are taken in, and those whose files are gone are taken out.
    """
    return _accepted(services().client.submit_index_job(json_data.folder, allow_empty=json_data.allow_empty))


@blueprint.get("/index-jobs")
@blueprint.output(cast(Any, list[IndexJob]))
@blueprint.doc(responses=responses({503: "Redis is away."}))
def list_jobs() -> list[IndexJob]:
    """The latest jobs, newest first"""
    return services().client.jobs()


@blueprint.get("/index-jobs/<job_id>")
@blueprint.output(IndexJob)
@blueprint.doc(responses=responses({**_NO_JOB, 503: "Redis is away."}))
def get_job(job_id: str) -> IndexJob:
    """State of a job"""
    return services().client.job(_known(job_id))


@blueprint.get("/index-jobs/<job_id>/errors")
@blueprint.input(ErrorsQuery, location="query")
@blueprint.output(cast(Any, list[FileError]))
@blueprint.doc(
    responses=responses(
        {
            200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
            **_NO_JOB,
            422: "An unknown format.",
            503: "Redis is away.",
        }
    )
)
def get_job_errors(job_id: str, query_data: ErrorsQuery) -> list[FileError] | Response:
    """Failed files of a job

    Each with the reason.
    """
    failed = services().client.job_errors(_known(job_id))
    if query_data.format == "json":
        return failed
    name = f"errors-{job_id}.csv"
    return Response(
        _csv(failed), mimetype="text/csv", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


@blueprint.post("/index-jobs/<job_id>/pause")
@blueprint.output(IndexJob)
@blueprint.doc(security="token", responses=responses(_CONTROL))
def pause_job(job_id: str) -> IndexJob:
    """Pause a job

    Batches that are being worked on are finished; no new ones are taken.
    """
    return services().client.pause_job(_known(job_id))


@blueprint.post("/index-jobs/<job_id>/resume")
@blueprint.output(IndexJob)
@blueprint.doc(security="token", responses=responses(_CONTROL))
def resume_job(job_id: str) -> IndexJob:
    """Resume a paused job"""
    return services().client.resume_job(_known(job_id))


@blueprint.post("/index-jobs/<job_id>/cancel")
@blueprint.output(IndexJob)
@blueprint.doc(security="token", responses=responses(_CONTROL))
def cancel_job(job_id: str) -> IndexJob:
    """Cancel a job

    What it has indexed stays in the collection.
    """
    return services().client.cancel_job(_known(job_id))


@blueprint.post("/index-jobs/<job_id>/retry")
@blueprint.input(IdempotencyHeader, location="headers")
@blueprint.output(JobAccepted, status_code=202, description="Taken; the new job's state is at `url`.")
@blueprint.doc(
    security="token",
    responses=responses(
        {**_NO_JOB, 409: f"No file of it failed. {STILL_HANDLED}", 422: REFUSED_KEY, 429: TOO_MANY, **_NOT_ALLOWED}
    ),
)
@idempotent
@limited("job")
def retry_job(job_id: str) -> tuple[JobAccepted, int, dict[str, str]]:
    """Try the failed files of a job again

    A new job is made that is about these files alone.
    """
    return _accepted(services().client.retry_job(_known(job_id)))


def _accepted(job: IndexJob) -> tuple[JobAccepted, int, dict[str, str]]:
    accepted = JobAccepted(id=job.id, state=job.state, url=f"/api/v1/index-jobs/{job.id}")
    return accepted, 202, {"Location": accepted.url}


def _known(job_id: str) -> str:
    if not is_id(job_id):
        raise UnknownJob(job_id)
    return job_id


def _csv(failed: list[FileError]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["path", "error"])
    writer.writerows((item.path, item.error) for item in failed)
    return buffer.getvalue()
