"""The pages. Each is complete when it arrives; small scripts keep it up to date through the API."""

from __future__ import annotations

import re
from dataclasses import dataclass

from apiflask import APIBlueprint, APIFlask
from flask import current_app, render_template
from markupsafe import Markup, escape

from common import __version__
from common.errors import ServiceUnavailable
from common.messages import IndexJob, Status
from web.reference import Section, sections
from web.services import query_workers, services

blueprint = APIBlueprint("pages", __name__, enable_openapi=False)

RESULT_COUNTS = (10, 30, 60, 100, 300)


@dataclass(frozen=True)
class Overview:
    """What the pages show of the system; without a status where Redis is away."""

    status: Status | None
    jobs: list[IndexJob]
    problem: str | None = None

    @property
    def folders(self) -> list[str]:
        """The library's roots and every folder that was indexed, for the choice of a folder."""
        roots = services().client.library.names
        return sorted({*roots, *(job.folder for job in self.jobs)})

    @property
    def untrained(self) -> bool:
        """Whether the model's weights are untrained."""
        return self.status is not None and self.status.trained is False

    @property
    def worker_problem(self) -> str | None:
        """Why no search can be answered now: `missing`, `loading`, or what the query worker waits for."""
        if self.status is None or query_workers(self.status.workers):
            return None
        there = [worker for worker in self.status.workers if "query" in worker.queues]
        if not there:
            return "missing"
        return there[0].detail or "loading"


@blueprint.app_template_filter("thousands")
def thousands(value: int) -> str:
    """12345 as 12,345."""
    return f"{value:,}"


@blueprint.app_template_filter("code_spans")
def code_spans(text: str) -> Markup:
    """Escapes a text, and sets what stands in backquotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


@blueprint.get("/")
def search_page() -> str:
    """The search page."""
    return _render_search(None)


@blueprint.get("/search/<search_id>")
def search_result_page(search_id: str) -> str:
    """The search page with the results of a search."""
    return _render_search(search_id)


@blueprint.get("/folders")
def folders_page() -> str:
    """The page of the folders and their index jobs."""
    return render_template("folders.html", page="folders", overview=_overview())


@blueprint.get("/api/docs")
def reference_page() -> str:
    """The documentation of the API, from its OpenAPI document."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    return render_template("reference.html", page="api", overview=_overview(), sections=_reference(app))


@blueprint.app_context_processor
def _common_values() -> dict[str, object]:
    return {"version": __version__, "page": None, "overview": None}


def _render_search(search_id: str | None) -> str:
    return render_template(
        "search.html",
        page="search",
        overview=_overview(),
        search_id=search_id,
        max_upload_bytes=services().settings.max_upload_bytes,
        result_counts=RESULT_COUNTS,
    )


def _overview() -> Overview:
    current = services()
    try:
        return Overview(current.status(), current.client.jobs())
    except ServiceUnavailable as error:
        return Overview(None, [], str(error))


def _reference(app: APIFlask) -> list[Section]:
    document = app.spec
    assert isinstance(document, dict), "the document is JSON"
    return sections(document)
