"""The pages of the collection: index jobs and workers, the indexed pictures by folder, near-duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from apiflask import APIBlueprint
from flask import Response, render_template, request, url_for

from common.duplicates import DEFAULT_MIN_SCORE, LEAST_MIN_SCORE, DuplicateJob, DuplicatePage
from common.errors import OutsideLibrary, ServiceUnavailable, UnknownDuplicateJob
from common.ids import is_id
from common.messages import FINAL_JOB_STATES, ImageInfo, IndexJob
from common.store import FeatureStore
from web.api.cursors import decode_cursor, encode_cursor
from web.collection import image_info
from web.overview import current_overview
from web.problems import Problem, problem_response
from web.services import services
from web.texts import text

blueprint = APIBlueprint("collection_pages", __name__, enable_openapi=False)

PICTURES = 60
FOLDERS = 60
GROUPS = 20

# The kinds of work, each with a queue and workers of its own.
ROLES = ("query", "bulk", "maintenance")


@dataclass(frozen=True)
class FolderCard:
    """A folder to open; its first picture stands for it."""

    name: str
    address: str
    images: int
    thumbnail_url: str | None


@dataclass(frozen=True)
class FolderView:
    """What the page of a folder shows.

    Attributes:
        path: `ROOT_NAME/relative/path`; None above the roots.
        images: How many indexed pictures are below it.
        cards: The folders directly in it.
        more_folders: The cursor of the next ones.
        pictures: The first pictures below it.
        next_cursor: The cursor of the next ones.
    """

    path: str | None
    images: int = 0
    cards: tuple[FolderCard, ...] = ()
    more_folders: str | None = None
    pictures: tuple[ImageInfo, ...] = ()
    next_cursor: str | None = None

    @property
    def name(self) -> str | None:
        """The last part of the path."""
        return self.path and self.path.rpartition("/")[2]

    @property
    def trail(self) -> list[tuple[str, str]]:
        """Name and address of each folder on the way, itself included."""
        parts = self.path.split("/") if self.path else []
        paths = accumulate(parts, lambda path, part: f"{path}/{part}")
        return [(part, _browse_address(path)) for part, path in zip(parts, paths, strict=True)]


@blueprint.get("/folders")
def folders_page() -> str:
    """The page of index jobs, workers and queues."""
    overview = current_overview()
    # What goes on comes first; both parts are already newest first.
    jobs = sorted(overview.jobs, key=lambda job: job.state in FINAL_JOB_STATES)
    folder = request.args.get("folder", "")
    return render_template(
        "folders.html", page="folders", overview=overview, jobs=jobs, roles=ROLES, folder=folder, work=_work
    )


@blueprint.get("/browse")
def browse_page() -> str:
    """The indexed pictures of all folders."""
    return _render_folder(_view(services().collection.store_if_readable(), None))


@blueprint.get("/browse/<path:folder>")
def browse_folder_page(folder: str) -> str | Response:
    """The indexed pictures of a folder."""
    current = services()
    try:
        path = current.client.library.locate(folder).public
    except OutsideLibrary as error:
        return _no_folder(str(error))
    view = _view(current.collection.store_if_readable(), path)
    if not view.images and path not in current.client.library.names:
        return _no_folder(text("browse.no_folder", folder=path))
    return _render_folder(view)


@blueprint.get("/duplicates")
def duplicates_page() -> str:
    """The near-duplicates that were found, and the search for them."""
    jobs, shown, expired = _duplicates(request.args.get("job"))
    return render_template(
        "duplicates.html",
        page="duplicates",
        overview=current_overview(),
        jobs=jobs,
        active=jobs[0] if jobs and jobs[0].state in {"queued", "running"} else None,
        shown=shown,
        expired=expired,
        default_score=DEFAULT_MIN_SCORE,
        least_score=LEAST_MIN_SCORE,
    )


# --- index jobs ----------------------------------------------------------------------------------------------


def _work(job: IndexJob) -> str:
    """What a job is at, in a line; `folders.js` does the same."""
    through = job.done + job.failed
    if job.is_interrupted or (job.state == "failed" and not job.total):
        return ""
    if job.state == "scanning":
        return text("jobs.scanning", count=job.found)
    if job.state == "done" and not job.total:
        return text("jobs.nothing_new", count=job.unchanged) if job.unchanged else text("jobs.nothing")
    return text("jobs.through", done=through, files=text("common.files", count=job.total))


# --- folders -------------------------------------------------------------------------------------------------


def _view(store: FeatureStore | None, path: str | None) -> FolderView:
    if store is None:
        return FolderView(path)
    folders, more = store.folders.children(path, decode_cursor(request.args.get("folders")), FOLDERS)
    entries = list(store.catalog.below(path, limit=PICTURES + 1))
    pictures = tuple(image_info(entry) for entry in entries[:PICTURES])
    return FolderView(
        path=path,
        images=store.folders.count(path),
        cards=tuple(
            FolderCard(folder.name, _browse_address(folder.path), folder.images, _first_thumbnail(store, folder.path))
            for folder in folders
        ),
        more_folders=encode_cursor(folders[-1].path) if more else None,
        pictures=pictures,
        next_cursor=encode_cursor(pictures[-1].path) if len(entries) > PICTURES else None,
    )


def _first_thumbnail(store: FeatureStore, folder: str) -> str | None:
    entry = next(store.catalog.below(folder, limit=1), None)
    return image_info(entry).thumbnail_url if entry else None


def _browse_address(path: str) -> str:
    return url_for("collection_pages.browse_folder_page", folder=path)


def _render_folder(view: FolderView) -> str:
    more = view.more_folders and url_for(request.endpoint or "", **(request.view_args or {}), folders=view.more_folders)
    return render_template("browse.html", page="browse", overview=current_overview(), view=view, more_folders_url=more)


def _no_folder(detail: str) -> Response:
    return problem_response(Problem(title=text("browse.no_folder_title"), status=404, detail=detail))


# --- duplicates ----------------------------------------------------------------------------------------------


def _duplicates(wanted: str | None) -> tuple[list[DuplicateJob], DuplicatePage | None, bool]:
    """The latest jobs, the one whose groups are shown with its first groups, and whether the wanted one is gone."""
    client = services().client
    try:
        jobs = client.duplicate_jobs()
        if wanted and is_id(wanted):
            try:
                return jobs, client.duplicates(wanted, None, GROUPS), False
            except UnknownDuplicateJob:
                pass
        finished = next((job for job in jobs if job.state == "done"), None)
        return jobs, client.duplicates(finished.id, None, GROUPS) if finished else None, wanted is not None
    except (ServiceUnavailable, UnknownDuplicateJob):
        return [], None, False
