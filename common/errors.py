"""Every error of the product, under one root.

The first line of a class's docstring is its default message; facts are attributes, so that callers never
parse a text. `str(error)` is meant for the person at the screen and says what to do.
"""

from __future__ import annotations

import os
import re
from pathlib import Path


class ImageSearchError(Exception):
    """Something went wrong in the image search."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


def kind_of(error: BaseException | type[BaseException]) -> str:
    """The kind of an error in a form that stays the same, for machines: `damaged-image` for `DamagedImage`."""
    name = error.__name__ if isinstance(error, type) else type(error).__name__
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


class ConfigurationError(ImageSearchError):
    """A setting has a value that cannot be used."""

    def __init__(self, setting: str, problem: str) -> None:
        self.setting = setting
        super().__init__(f"{setting}: {problem}")


class ServiceUnavailable(ImageSearchError):
    """A service that is needed cannot be reached.

    Attributes:
        retry_after: Seconds after which to try again.
    """

    retry_after = 2


class RedisUnavailable(ServiceUnavailable):
    """Redis cannot be reached."""

    def __init__(self, url: str, reason: object) -> None:
        self.url = url
        super().__init__(
            f"Redis is not reachable at {url} ({reason}). Start it with `make up`, or set IMAGESEARCH_REDIS_URL."
        )


class RedisSilent(RedisUnavailable):
    """Redis does not answer."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url = url
        ServiceUnavailable.__init__(
            self,
            f"Redis does not answer at {url}: it takes connections, but was silent for {seconds:.0f} s. It hangs, or "
            "its host or the network is overloaded. Jobs go on by themselves; a search has to be sent again.",
        )


class RedisRefuses(ServiceUnavailable):
    """Redis is there, but takes nothing.

    It answers what is only read, and what was stored stays.
    """

    retry_after = 5


class RedisFull(RedisRefuses):
    """Redis has no memory left (`maxmemory`): it takes no searches and jobs until some is free. Give it more."""

    retry_after = 10


class TooManySearches(ServiceUnavailable):
    """Too many searches wait already."""

    def __init__(self, reason: str, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"{reason} Try again in {retry_after} s.")


class VectorBackendUnavailable(ServiceUnavailable):
    """Milvus cannot be reached."""

    def __init__(self, uri: str, reason: object) -> None:
        self.uri = uri
        super().__init__(
            f"Milvus at {uri} does not answer as it should ({reason}). Start it, or correct IMAGESEARCH_MILVUS_URI: "
            "the URL of a Milvus server, or the path of a Milvus Lite file (*.db), which one process at a time may "
            "open. IMAGESEARCH_VECTOR_BACKEND=faiss works without Milvus."
        )


class ModelNotReady(ServiceUnavailable):
    """No worker has loaded the model yet: start one with `imagesearch worker --queues query`."""


class DecoderUnavailable(ServiceUnavailable):
    """No picture can be decoded now."""

    def __init__(self, reason: object) -> None:
        super().__init__(
            f"No picture can be decoded: the process for that does not start ({reason}). Look at the memory and the "
            "number of processes of this worker's host."
        )


class DecoderKilled(ServiceUnavailable):
    """The process that decoded the picture was killed from outside."""

    def __init__(self, how: str) -> None:
        super().__init__(
            f"The process that decoded the picture was killed from outside ({how}): most likely the host of this "
            "worker has too little memory for it."
        )


class StoreUnreadable(ServiceUnavailable):
    """The feature store cannot be read at present."""

    retry_after = 10

    def __init__(self, path: Path, reason: Exception) -> None:
        self.path = path
        number = getattr(reason, "errno", None)  # what h5py says with it fills five lines
        super().__init__(
            f"{path} cannot be read ({os.strerror(number) if number else reason}). Is the data folder "
            "mounted, and does its disk work? It is tried again by itself."
        )


class WorkerTimeout(ServiceUnavailable):
    """No worker answered in time."""


# --- the library of pictures ---------------------------------------------------------------------------------


class LibraryError(ImageSearchError):
    """A folder or a picture of the library cannot be used."""


class OutsideLibrary(LibraryError):
    """The path is outside the library."""

    def __init__(self, path: str, roots: list[str]) -> None:
        self.path = path
        known = ", ".join(roots) if roots else "none is set"
        super().__init__(
            f"{path} is outside the library. Folders that may be indexed: {known}. "
            "Add it to IMAGESEARCH_LIBRARY_ROOTS, or start with `make up IMAGES=DIR`."
        )


class FolderNotFound(LibraryError):
    """The folder does not exist, or is not a folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} does not exist on this host, or is not a folder.")


# --- pictures that cannot be taken ---------------------------------------------------------------------------


class ImageRejected(ImageSearchError):
    """The picture cannot be used."""


class EmptyImage(ImageRejected):
    """The file is empty."""


class UnsupportedImage(ImageRejected):
    """Not an image in a supported format (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC)."""


class DamagedImage(ImageRejected):
    """The image is damaged and cannot be decoded."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"The image is damaged and cannot be decoded: {reason}")


class ImageTooLarge(ImageRejected):
    """The image is too large."""

    def __init__(self, what: str, actual: int, limit: int, setting: str) -> None:
        self.actual = actual
        self.limit = limit
        super().__init__(f"The image has {actual:,} {what}; at most {limit:,} are accepted (IMAGESEARCH_{setting}).")


class UnreadableFile(ImageRejected):
    """The file cannot be read."""


class DecoderCrashed(ImageRejected):
    """The picture crashed its decoder."""

    def __init__(self, how: str) -> None:
        super().__init__(
            f"The picture cannot be decoded: its decoder crashed ({how}). It is damaged, or made to do that; saved "
            "anew by an image program it may work."
        )


class DecodingTooSlow(ImageRejected):
    """The picture takes too long to decode."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            f"The picture cannot be decoded: it took longer than {seconds:.0f} s, which is far more than its size "
            "explains. It is damaged, or made to do that."
        )


class TooMuchMemoryNeeded(ImageRejected):
    """The picture needs more memory than its size explains: it is damaged, or made to do that."""


class DecoderFault(ImageRejected):
    """The picture met an error in the decoder."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The picture cannot be decoded: {reason}")


# --- the feature store ---------------------------------------------------------------------------------------


class StoreError(ImageSearchError):
    """The feature store cannot be used."""


class FingerprintMismatch(StoreError):
    """The features of two different models cannot be mixed in one store."""

    def __init__(self, store: Path, expected: str, actual: str) -> None:
        self.store, self.expected, self.actual = store, expected, actual
        super().__init__(
            f"{store} holds features of model {expected}, not of {actual}. "
            "Features of different models cannot be compared: each model has a store of its own."
        )


class SegmentDamaged(StoreError):
    """A segment of the feature store is damaged."""

    def __init__(self, path: Path, problem: object) -> None:
        self.path = path
        super().__init__(
            f"Segment {path.name} is damaged: {problem}. Move the file away and index its folder again: "
            "only the pictures it held are embedded anew."
        )


class UnsupportedFormatVersion(StoreError):
    """The file was written in a format that this version cannot read."""

    def __init__(self, path: Path, found: object, supported: int) -> None:
        self.path = path
        super().__init__(
            f"{path} has format version {found}; this software reads up to {supported}. Nothing was changed. Run the "
            "software that wrote it, or a later one; or go back to a copy of the data folder from before the upgrade."
        )


class UnknownImage(StoreError):
    """No such image is in the store."""

    def __init__(self, image_id: str) -> None:
        self.image_id = image_id
        super().__init__(f"No image {image_id} is in the store. It may have been removed from the library.")


# --- model and weights ---------------------------------------------------------------------------------------


class ModelError(ImageSearchError):
    """The model cannot be loaded."""


class WeightsUnavailable(ModelError):
    """The model's weights are not available."""


# --- searches and jobs ---------------------------------------------------------------------------------------


class UnknownSearch(ImageSearchError):
    """This search is unknown, or its results have expired: submit the image again."""


class UnknownPicture(ImageSearchError):
    """There is no preview of this picture: it is made right after the search, and expires with the results."""


class InvalidCursor(ImageSearchError):
    """This is not the `next_cursor` of an answer that has more results."""


class UploadExpired(ServiceUnavailable):
    """The uploaded picture has expired before a worker came to it: submit it again."""


class PageExpired(ImageSearchError):
    """The first page of this search has expired: search again."""


class QueryCancelled(ImageSearchError):
    """The pictures of this query cancel each other out: nothing is left to search for. Change their weights."""


class UnknownJob(ImageSearchError):
    """This index job is unknown."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"No index job {job_id} is known. `imagesearch jobs` lists the known ones.")


class UnknownDuplicateJob(ImageSearchError):
    """This search for duplicates is unknown, or its results have expired: start it again."""


class JobStateConflict(ImageSearchError):
    """The job's state does not allow this."""

    def __init__(self, job_id: str, state: str, action: str) -> None:
        self.job_id, self.state, self.action = job_id, state, action
        super().__init__(f"Job {job_id} is {state}: it cannot be {action}.")
