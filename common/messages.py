"""The JSON records that cross a process or leave through the API. Typed, validated, never pickled."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, computed_field, field_validator

from common.stopwatch import STAGES

SearchState = Literal["queued", "running", "done", "failed"]
JobState = Literal["scanning", "running", "paused", "done", "cancelled", "failed"]
FINAL_JOB_STATES: frozenset[JobState] = frozenset({"done", "cancelled", "failed"})

# With this begins the error of a job that Redis has lost.
INTERRUPTED_PREFIX = "interrupted"

Fraction = Annotated[float, Field(ge=0, le=1)]
Crop = tuple[Fraction, Fraction, Fraction, Fraction]
"""left, top, right, bottom, as fractions of the upright image."""

MAX_K = 1000
DEFAULT_K = 30
# So many results of one search are handed out, page by page: to find the next ones all before them are ranked again.
MAX_DEPTH = 10_000

MAX_QUERY_IMAGES = 16
MAX_WEIGHT = 10
Weight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, allow_inf_nan=False)]


class Message(BaseModel):
    """Base of all records: immutable; unknown fields of a newer version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


# --- searches ------------------------------------------------------------------------------------------------


class QueryImage(Message):
    """A picture of a query: an indexed one, or without `image_id` the next uploaded one."""

    image_id: str | None = None
    weight: Weight = 1.0


class SearchPosition(Message):
    """The last result of a page: the next page begins behind it.

    `score` goes through JSON without loss, so that it can be compared exactly.
    """

    search_id: str = Field(description="the search of the first page: with it lies what was searched for")
    rank: int
    score: float
    path: str

    def is_before(self, score: float, path: str) -> bool:
        """Whether a result with this score and path comes after this position, in the order of all results."""
        # Its own path never: on another host the same score may differ in its last bit.
        return path != self.path and (-score, path) > (-self.score, self.path)


class SearchQuery(Message):
    """What a client asks for.

    One stored picture is named by `image_id`, several, or weighted ones, by `images`; without both it is one upload.
    The bytes of uploads lie in Redis beside the record. With `after` it is the next page of an earlier search.
    """

    image_id: str | None = None
    images: tuple[QueryImage, ...] = Field((), max_length=MAX_QUERY_IMAGES)
    k: int = Field(DEFAULT_K, ge=1, le=MAX_K)
    folder: str | None = None
    min_score: float | None = Field(None, ge=-1, le=1)
    crop: Crop | None = None
    after: SearchPosition | None = None

    @field_validator("images")
    @classmethod
    def _one_is_wanted(cls, value: tuple[QueryImage, ...]) -> tuple[QueryImage, ...]:
        if value and all(image.weight <= 0 for image in value):
            raise ValueError("at least one weight must be positive: say what to look for, not only what to avoid")
        return value

    @field_validator("crop")
    @classmethod
    def _of_one_picture(cls, value: Crop | None, info: ValidationInfo) -> Crop | None:
        if value is not None and len(info.data.get("images", ())) > 1:
            raise ValueError("a crop is possible only where a single picture is searched for")
        return value

    @property
    def pictures(self) -> tuple[QueryImage, ...]:
        """All pictures of the query with their weights; uploads in their order."""
        return self.images or (QueryImage(image_id=self.image_id),)


def thumbnail_url(image_id: str) -> str:
    """The address of an indexed image's thumbnail."""
    return f"/api/v1/images/{image_id}/thumbnail"


class ImageLinks(Message):
    """An image of the store, with the addresses of its thumbnail and its file."""

    image_id: str
    path: str = Field(description="ROOT_NAME/relative/path, the same on every host")
    width: int = Field(description="width of the upright picture in pixels")
    height: int = Field(description="height of the upright picture in pixels")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def thumbnail_url(self) -> str:
        """Address of the thumbnail."""
        return thumbnail_url(self.image_id)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def image_url(self) -> str:
        """Address of the file itself."""
        return f"/api/v1/images/{self.image_id}/original"


class SearchHit(ImageLinks):
    """One ranked result."""

    rank: int = Field(description="1 is the most similar")
    score: float = Field(description="cosine similarity, -1 to 1; 1 is the same picture")
    distance: float = Field(description="Euclidean distance of the normalised features, 0 to 2")
    percentile: float | None = Field(
        None,
        description="0 to 100: how many of random pairs of pictures of this collection are less similar than the query "
        "and this picture; null until that is known, and in a collection of fewer than 10 pictures",
    )
    content_hash: str | None = Field(
        None, description="SHA-256 of the file, hexadecimal: pictures that have the same one are exact duplicates"
    )


class QueryPicture(Message):
    """A picture that was searched for."""

    image_id: str | None = Field(None, description="the indexed picture; null for an uploaded one")
    weight: float = Field(1.0, description="how much it counts; negative: less like this")
    picture_url: str | None = Field(
        None,
        description="where to see it: the thumbnail of an indexed picture, or a preview of an uploaded one, which is "
        "there a moment after the result; null after a failed search that left no preview",
    )


class QueryInfo(Message):
    """What was searched for."""

    images: list[QueryPicture] = Field(default_factory=list, description="the pictures; uploaded ones in their order")
    crop: Crop | None = Field(
        None, description="left, top, right, bottom, as fractions of the upright picture: only that part was meant"
    )
    folder: str | None = Field(None, description="only pictures below this folder were wanted")
    k: int = Field(DEFAULT_K, description="how many results were wanted")
    min_score: float | None = Field(None, description="only results with at least this score were wanted")


class SearchResult(Message):
    """The state of a search, and its ranked results once it is done."""

    id: str
    state: SearchState
    model: str | None = None
    trained: bool | None = None
    took_ms: dict[str, float] = Field(
        default_factory=dict,
        description="milliseconds: `total`, and one entry for each stage that there was, in this order; "
        + "; ".join(f"`{stage}`: {text}" for stage, text in STAGES.items()),
    )
    indexed: int | None = Field(None, description="images in the store when it was searched")
    results: list[SearchHit] = Field(default_factory=list)
    next_cursor: str | None = Field(
        None, description="where there are more results: pass it as `cursor` to `POST /searches` for the next page"
    )
    error: str | None = None
    error_status: int | None = Field(
        None,
        description="if the search failed: the HTTP status that this amounts to. 4xx: the request is at fault, as with "
        "a picture that cannot be decoded (422), and fails again; 5xx: the system is, and it may help to try again",
    )
    query: QueryInfo = Field(
        default_factory=QueryInfo,
        description="what was searched for; of a next page, the pictures are those of the first",
    )


class SearchRecord(Message):
    """What Redis holds for one search."""

    query: SearchQuery
    result: SearchResult
    submitted_at: float = Field(description="when it was stored, seconds since the epoch")
    upload_sizes: tuple[int, ...] = Field((), description="bytes of each uploaded picture")
    upload_ms: float | None = Field(None, description="what the client's request took until then")
    finished_at: float | None = Field(None, description="when a worker had the answer ready")


# --- index jobs ----------------------------------------------------------------------------------------------


class IndexJob(Message):
    """A folder being indexed. `found = unchanged + total`; at the end `done + failed = total`."""

    id: str
    folder: str
    state: JobState
    found: int = Field(0, description="image files in the folder")
    unchanged: int = Field(0, description="already in the store with the same size and time")
    duplicates: int = Field(0, description="part of done whose content was already stored: no network was run")
    total: int = Field(0, description="files to be indexed")
    done: int = 0
    failed: int = 0
    removed: int = Field(0, description="images taken out because their files are gone")
    rate: float | None = Field(None, description="files a second, over the last minute")
    eta_seconds: float | None = None
    started_at: datetime
    finished_at: datetime | None = None
    error: str | None = Field(None, description="why the whole job failed")

    @property
    def is_interrupted(self) -> bool:
        """Whether the job is only known from its note on disk, because Redis has lost it."""
        return self.state == "failed" and (self.error or "").startswith(INTERRUPTED_PREFIX)


class FileError(Message):
    """A file that could not be indexed, and why."""

    path: str
    error: str


# --- images and status ---------------------------------------------------------------------------------------


class ImageInfo(ImageLinks):
    """An indexed image."""

    size: int = Field(description="bytes of the file")
    modified_at: datetime
    content_hash: str = Field(description="SHA-256 of the file, hexadecimal")


class ImagePage(Message):
    """A page of indexed images in the order of their paths."""

    images: list[ImageInfo]
    next_cursor: str | None = Field(None, description="pass it as `cursor` to get the next page")


class SystemProblem(Message):
    """Something that is wrong at present."""

    kind: str = Field(description="stays the same for the same kind of problem, such as `disk-full`")
    detail: str = Field(description="what is wrong, and what to do about it")


class WorkerInfo(Message):
    """A worker process that reported within the last seconds."""

    name: str
    host: str
    pid: int
    queues: list[str]
    state: Literal["loading", "idle", "busy", "waiting", "stuck"]
    detail: str | None = Field(None, description="what it does or waits for, while it cannot work")
    model: str | None = None
    fingerprint: str | None = None
    precision: str | None = None
    images_per_second: float | None = None
    threads: int | None = Field(None, description="threads of the network in this process")
    cpu_pools: list[str] = Field(
        default_factory=list, description="names of what its cores come from; workers that share one divide it"
    )
    problems: list[SystemProblem] = Field(default_factory=list, description="what hinders its work at present")
    started_at: datetime | None = Field(None, description="since when this process reports")
    last_seen: datetime


class QueueLengths(Message):
    """Tasks that wait."""

    query: int = 0
    bulk: int = 0
    maintenance: int = 0


class Status(Message):
    """The whole system at a glance."""

    images: int
    segments: int
    model: str | None
    trained: bool | None
    precision: str | None
    workers: list[WorkerInfo]
    queues: QueueLengths
    folders: list[str] = Field(default_factory=list, description="names of the library's roots")
    recall_at_10: float | None = Field(
        None, description="the part of the ten best that searches found, in samples; null where all are ranked exactly"
    )
    problems: list[SystemProblem] = Field(default_factory=list, description="what is wrong at present")
    version: str
