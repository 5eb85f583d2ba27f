"""What clients may send, and what they get for it at once."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from common.duplicates import DEFAULT_MIN_SCORE, LEAST_MIN_SCORE, DuplicateState
from common.messages import DEFAULT_K, MAX_K, MAX_QUERY_IMAGES, Crop, JobState, Message, SearchState, Weight
from web.addresses import MAX_URL_LENGTH

MAX_WAIT_SECONDS = 30
MAX_PAGE = 1000
DEFAULT_PAGE = 100


def _split(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _parse(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("it must be JSON") from error


class _Body(BaseModel):
    # A misspelled option would silently give another answer than the one asked for.
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightedImage(_Body):
    """An indexed image as one of several that are searched for together."""

    image_id: str
    weight: Weight = Field(1.0, description="how much it counts; negative: less like this")


class SearchRequest(_Body):
    """A search for stored images, the next page of one, or the options beside uploaded pictures."""

    image_id: str | None = Field(None, description="search for pictures like this indexed one")
    # In a form it is text.
    images: Annotated[tuple[WeightedImage, ...], BeforeValidator(_parse)] = Field(
        (),
        max_length=MAX_QUERY_IMAGES,
        description="search for pictures like these indexed ones together: `image_id` and `weight` of each. At most "
        f"{MAX_QUERY_IMAGES} with the uploaded ones; at least one weight must be positive",
    )
    cursor: str | None = Field(
        None,
        description="next_cursor of a search: the results after its last one. All other options but `k` stay as they "
        "were, and `k` too if it is not given",
    )
    url: str | None = Field(
        None,
        max_length=MAX_URL_LENGTH,
        description="search for the picture at this http or https address of the public internet, which the server "
        "fetches; only where it is set to allow that",
    )
    k: int = Field(DEFAULT_K, ge=1, le=MAX_K, description="number of results")
    folder: str | None = Field(None, description="only pictures below this folder, such as photos/2024")
    min_score: float | None = Field(None, ge=-1, le=1, description="only results with at least this score")
    crop: Annotated[Crop | None, BeforeValidator(_split)] = Field(
        None,
        description="left,top,right,bottom in fractions of the upright picture: search for this part of it; "
        "only where a single picture is searched for",
    )

    @field_validator("crop")
    @classmethod
    def _not_empty(cls, value: Crop | None) -> Crop | None:
        if value is not None and (value[0] >= value[2] or value[1] >= value[3]):
            raise ValueError("left must be less than right, and top less than bottom")
        return value


class UploadRequest(SearchRequest):
    """A search for an uploaded picture, or for several together."""

    image: Annotated[str | list[str] | None, Field(json_schema_extra={"format": "binary"})] = Field(
        None,
        description="the picture: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC. Repeat the field to search for "
        "several together",
    )
    weights: Annotated[tuple[Weight, ...], BeforeValidator(_split)] = Field(
        (),
        max_length=MAX_QUERY_IMAGES,
        description="how much each uploaded picture counts, in their order, such as 1,0.5,-0.5; negative: less like "
        "this. 1 for each by default",
    )


class IndexRequest(_Body):
    """The folder to index."""

    folder: str = Field(description="as ROOT_NAME/relative/path, or as an absolute path under a library root")
    allow_empty: bool = Field(
        False,
        description="take out all indexed images of the folder if it holds no pictures any more; refused otherwise, "
        "because a disk that is not mounted looks the same",
    )

    @model_validator(mode="after")
    def _not_empty(self) -> IndexRequest:
        if not self.folder.strip():
            raise ValueError("name a folder")
        return self


class DuplicateRequest(_Body):
    """Which images are duplicates, and where to look for them."""

    min_score: float = Field(
        DEFAULT_MIN_SCORE, ge=LEAST_MIN_SCORE, le=1, description="least cosine similarity of duplicates"
    )
    folder: str | None = Field(None, description="only images below this folder, such as photos/2024")


class DuplicateQuery(BaseModel):
    """Which page of the groups."""

    cursor: str | None = Field(None, description="next_cursor of the page before")
    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="groups on the page")


class WaitQuery(BaseModel):
    """How long the answer may wait for the result."""

    wait: float = Field(0, ge=0, le=MAX_WAIT_SECONDS, description="seconds to wait for the search to end")


class ErrorsQuery(BaseModel):
    """In what form."""

    format: Literal["json", "csv"] = Field("json", description="json, or csv as a file to download")


class PageQuery(BaseModel):
    """Which page of the images."""

    folder: str | None = Field(None, description="only images below this folder")
    direct: bool = Field(False, description="only those directly in the folder, none of the folders in it")
    cursor: str | None = Field(None, description="next_cursor of the page before")
    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="images on the page")


class SearchAccepted(Message):
    """A search that was taken, and where its result will be."""

    id: str
    state: SearchState
    url: str


class DuplicateAccepted(Message):
    """A search for near-duplicates that was taken, and where its state is."""

    id: str
    state: DuplicateState
    url: str


class JobAccepted(Message):
    """An index job that was taken, and where its state is."""

    id: str
    state: JobState
    url: str
