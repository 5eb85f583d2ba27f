"""The REST API, version 1: one module for each kind of thing."""

from __future__ import annotations

from apiflask import APIBlueprint

from web.api import duplicate_jobs, events, folders, images, index_jobs, searches, status

blueprint = APIBlueprint("api", __name__, url_prefix="/api/v1")
for _part in (searches, index_jobs, duplicate_jobs, images, folders, status, events):
    blueprint.register_blueprint(_part.blueprint)

__all__ = ["blueprint"]
