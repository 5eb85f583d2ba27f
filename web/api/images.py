"""The indexed images: their records, thumbnails and files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from apiflask import APIBlueprint
from flask import Response, request, send_file

from common.errors import OutsideLibrary
from common.library import Location
from common.messages import ImageInfo, ImagePage
from common.store import CatalogEntry, FeatureStore
from web.api.cursors import decode_cursor, encode_cursor
from web.api.inputs import PageQuery
from web.bodies import bounded_file
from web.collection import image_info
from web.documented import BINARY, responses
from web.problems import OriginalMissing
from web.services import services

blueprint = APIBlueprint("images", __name__, tag="Images")

# What a browser may be told that a file is. Everything else is offered as plain bytes.
# fmt: off
MEDIA_TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg", ".jfif": "image/jpeg", ".mpo": "image/jpeg",
    ".png": "image/png", ".apng": "image/png", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp",
    ".dib": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif", ".avifs": "image/avif",
    ".heic": "image/heic", ".heif": "image/heif", ".hif": "image/heif",
}
# fmt: on
_NO_IMAGE = {404: "No such image."}
_NOT_CHANGED = "The client has it already: `If-None-Match` is the ETag of an earlier answer."


@blueprint.get("/images")
@blueprint.input(PageQuery, location="query")
@blueprint.output(ImagePage)
@blueprint.doc(responses=responses({422: "A value cannot be used."}))
def list_images(query_data: PageQuery) -> ImagePage:
    """Indexed images, page by page

    In the order of their paths: all below a folder, or with `direct` those directly in it. Pass `next_cursor` as
    `cursor` to get the next page.
    """
    current = services()
    folder = current.client.library.locate(query_data.folder).public if query_data.folder else None
    after = decode_cursor(query_data.cursor)
    store = current.collection.store()
    if store is None:
        return ImagePage(images=[])
    list_entries = _direct_entries if query_data.direct else _entries
    entries = list_entries(store, folder, after, query_data.limit + 1)
    page = entries[: query_data.limit]
    more = len(entries) > len(page)
    return ImagePage(
        images=[image_info(entry) for entry in page], next_cursor=encode_cursor(page[-1].path) if more else None
    )


@blueprint.get("/images/<image_id>")
@blueprint.output(ImageInfo)
@blueprint.doc(responses=responses(_NO_IMAGE))
def get_image(image_id: str) -> ImageInfo:
    """Record of an image"""
    return image_info(services().collection.find(image_id)[1])


@blueprint.get("/images/<image_id>/thumbnail")
@blueprint.doc(
    responses=responses(
        {
            200: {"description": "The thumbnail.", "content": {"image/jpeg": BINARY}},
            304: _NOT_CHANGED,
            **_NO_IMAGE,
        }
    )
)
def get_thumbnail(image_id: str) -> Response:
    """Thumbnail of an image"""
    store, entry = services().collection.find(image_id)
    # The id stands for the path; the content behind it can change.
    response = Response(mimetype="image/jpeg")
    response.set_etag(entry.record.content_hash.hex())
    response.headers["Cache-Control"] = "private, max-age=600, stale-while-revalidate=86400"
    response.make_conditional(request)
    if response.status_code != 304:
        response.set_data(store.thumbnail(entry))
    return response


@blueprint.get("/images/<image_id>/original")
@blueprint.doc(
    responses=responses(
        {
            200: {"description": "The file.", "content": {"image/*": BINARY}},
            206: {
                "description": "The part of the file that the Range header asks for.",
                "content": {"image/*": BINARY},
            },
            304: _NOT_CHANGED,
            404: "No such image, or its file is gone.",
            416: "The range is outside the file.",
            503: "Too many files are being fetched.",
        }
    )
)
def get_original(image_id: str) -> Response:
    """The image file itself"""
    _, entry = services().collection.find(image_id)
    path = _readable_file(entry)
    media_type = MEDIA_TYPES.get(path.suffix.lower()) or MEDIA_TYPES.get(PurePosixPath(entry.path).suffix.lower())
    response = send_file(
        path,
        mimetype=media_type or "application/octet-stream",
        as_attachment=media_type is None,
        # No header holds the line ends that a name on Linux may have.
        download_name="".join(c if c.isprintable() else "_" for c in PurePosixPath(entry.path).name),
        conditional=True,
        max_age=0,
    )
    response.headers["Cache-Control"] = "private, no-cache"
    return bounded_file(response)


def _entries(store: FeatureStore, folder: str | None, after: str, limit: int) -> list[CatalogEntry]:
    return list(store.catalog.below(folder, after, limit))


def _direct_entries(store: FeatureStore, folder: str | None, after: str, limit: int) -> list[CatalogEntry]:
    if folder is None:
        return []  # above the roots there are no images
    found = (store.catalog.by_path(path) for path in store.folders.direct(folder, after, limit))
    return [entry for entry in found if entry is not None]  # one may have gone since


def _readable_file(entry: CatalogEntry) -> Path:
    """The image's file on this host; a link that leads out of the library is as good as no file."""
    try:
        path = services().client.library.resolve(Location(entry.record.root, entry.record.path))
        if path.is_file():
            with path.open("rb"):
                return path
    except (OutsideLibrary, OSError):
        pass
    raise OriginalMissing(entry.path)
