"""The HTTP status that each error of the product amounts to: 4xx is the client's doing, 5xx is ours."""

from __future__ import annotations

from common import errors

# The first match counts, so a class stands before its base.
_STATUS: tuple[tuple[type[errors.ImageSearchError], int], ...] = (
    (errors.UnsupportedImage, 415),
    (errors.ImageTooLarge, 413),
    (errors.ImageRejected, 422),
    (errors.LibraryError, 422),
    (errors.QueryCancelled, 422),
    (errors.PageExpired, 410),
    (errors.UnknownImage, 404),
    (errors.UnknownSearch, 404),
    (errors.UnknownPicture, 404),
    (errors.InvalidCursor, 422),
    (errors.UnknownJob, 404),
    (errors.UnknownDuplicateJob, 404),
    (errors.JobStateConflict, 409),
    (errors.ServiceUnavailable, 503),
)


def status_of(error: errors.ImageSearchError) -> int:
    """The status of an error; 500 for what should not happen."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
