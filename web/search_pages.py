"""The search page: empty, or with a search as it stands. A finished one arrives with its tiles."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import render_template

from common.errors import ServiceUnavailable, UnknownSearch
from common.ids import is_id
from common.messages import SearchHit, SearchResult
from web.collection import image_info
from web.overview import current_overview
from web.services import services

blueprint = APIBlueprint("search_pages", __name__, enable_openapi=False)

# The first screen of nearly everybody; the script adds the others at once.
FIRST_TILES = 24
# Pictures of the collection to start from.
SAMPLES = 12
ROOTS = 200


@blueprint.get("/")
def search_page() -> str:
    """The search page."""
    return _render()


@blueprint.get("/search/<search_id>")
def search_result_page(search_id: str) -> tuple[str, int]:
    """The search page with the results of a search; 404 for one that is unknown or has expired."""
    try:
        result = services().client.search(search_id) if is_id(search_id) else None
    except UnknownSearch:
        result = None
    except ServiceUnavailable:
        return _render(search_id=search_id), 200  # the overview says so, and the script tries again
    if result is None:
        return _render(search_id=search_id, expired=True), 404
    return _render(search_id=search_id, result=result, tiles=first_of_each_content(result.results)[:FIRST_TILES]), 200


def first_of_each_content(hits: list[SearchHit]) -> list[SearchHit]:
    """The results without exact duplicates of an earlier one: those are one tile."""
    firsts: dict[str, SearchHit] = {}
    for hit in hits:
        firsts.setdefault(hit.content_hash or hit.image_id, hit)
    return list(firsts.values())


def _render(
    *,
    search_id: str | None = None,
    result: SearchResult | None = None,
    expired: bool = False,
    tiles: list[SearchHit] | None = None,
) -> str:
    settings, store = services().settings, services().collection.store_if_readable()
    return render_template(
        "search.html",
        page="search",
        overview=current_overview(),
        search_id=search_id,
        result=result,
        expired=expired,
        tiles=tiles or [],
        samples=[] if store is None or search_id else [image_info(entry) for entry in store.catalog.sample(SAMPLES)],
        roots=[] if store is None else store.folders.children(None, limit=ROOTS)[0],
        max_upload_bytes=settings.max_upload_bytes,
        url_queries=settings.allow_url_queries,
    )
