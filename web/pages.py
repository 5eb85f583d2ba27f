"""The pages. Each is complete when it arrives; small scripts keep it up to date through the API."""

from __future__ import annotations

from typing import cast

from apiflask import APIBlueprint, APIFlask
from flask import current_app, render_template, request

from common import __version__
from web.overview import current_overview
from web.reference import Reference, arrange, limits
from web.services import services

blueprint = APIBlueprint("pages", __name__, enable_openapi=False)


@blueprint.get("/api/docs")
def reference_page() -> str:
    """The documentation of the API, from its OpenAPI document."""
    settings = services().settings
    return render_template(
        "reference.html",
        page="api",
        overview=current_overview(),
        reference=_reference(),
        site=request.host_url.rstrip("/"),
        needs_token=settings.api_token is not None,
        limits=limits(settings),
    )


@blueprint.app_context_processor
def _common_values() -> dict[str, object]:
    return {"version": __version__, "page": None, "overview": None}


def _reference() -> Reference:
    document = cast(APIFlask, current_app).spec
    assert isinstance(document, dict), "the document is JSON"
    return arrange(document)
