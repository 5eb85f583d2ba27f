"""The folders of the library as they are indexed."""

from __future__ import annotations

from apiflask import APIBlueprint
from pydantic import BaseModel, Field

from common.messages import Message
from web.api.cursors import decode_cursor, encode_cursor
from web.api.inputs import DEFAULT_PAGE, MAX_PAGE
from web.documented import responses
from web.services import services

blueprint = APIBlueprint("folders", __name__, tag="Images")


class FolderQuery(BaseModel):
    """Which page of the folders."""

    parent: str | None = Field(None, description="the folder whose folders are listed; without it, the roots are")
    cursor: str | None = Field(None, description="next_cursor of the page before")
    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="folders on the page")


class FolderInfo(Message):
    """A folder with indexed images."""

    path: str = Field(description="ROOT_NAME/relative/path, the same on every host")
    name: str = Field(description="the last part of the path")
    images: int = Field(description="indexed images below it, at any depth")
    has_folders: bool = Field(description="whether there are folders with indexed images in it")


class FolderPage(Message):
    """A page of folders in the order of the images in them."""

    parent: str | None
    images: int = Field(description="indexed images below the parent, at any depth; without a parent, all")
    folders: list[FolderInfo]
    next_cursor: str | None = Field(None, description="pass it as `cursor` to get the next page")


@blueprint.get("/folders")
@blueprint.input(FolderQuery, location="query")
@blueprint.output(FolderPage)
@blueprint.doc(responses=responses({422: "A value cannot be used, or the parent is outside the library."}))
def list_folders(query_data: FolderQuery) -> FolderPage:
    """Indexed folders, page by page

    The folders directly below another one, or the roots, in the order of the images in them (`a.b` comes before `a`).
    Only folders with indexed images are listed. The images directly in a folder: `GET /images?folder=…&direct=true`.
    """
    current = services()
    parent = current.client.library.locate(query_data.parent).public if query_data.parent else None
    after = decode_cursor(query_data.cursor)
    store = current.collection.store()
    if store is None:
        return FolderPage(parent=parent, images=0, folders=[])
    found, more = store.folders.children(parent, after, query_data.limit)
    folders = [FolderInfo(path=f.path, name=f.name, images=f.images, has_folders=f.has_folders) for f in found]
    return FolderPage(
        parent=parent,
        images=store.folders.count(parent),
        folders=folders,
        next_cursor=encode_cursor(found[-1].path) if more else None,
    )
