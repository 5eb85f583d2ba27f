from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from common import errors
from common.errors import ImageSearchError, ImageTooLarge, OutsideLibrary, SegmentDamaged

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, Exception) and value.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_has_the_one_root_and_a_sentence_as_docstring(error: type[Exception]) -> None:
    assert issubclass(error, ImageSearchError)
    assert (error.__doc__ or "").splitlines()[0].rstrip()


@pytest.mark.parametrize(
    "error",
    [error for error in CLASSES if "__init__" not in vars(error)],
    ids=lambda error: error.__name__,
)
def test_the_docstring_is_the_default_message(error: type[ImageSearchError]) -> None:
    assert str(error()) == (error.__doc__ or "").strip().splitlines()[0]
    assert str(error("another text")) == "another text"


def test_facts_are_attributes_and_the_message_says_what_to_do() -> None:
    too_large = ImageTooLarge("pixels", 10_000_000, 5_000_000, "MAX_IMAGE_PIXELS")
    assert (too_large.actual, too_large.limit) == (10_000_000, 5_000_000)
    assert "10,000,000 pixels" in str(too_large)
    assert "IMAGESEARCH_MAX_IMAGE_PIXELS" in str(too_large)
    damaged = SegmentDamaged(Path("/data/store/segments/job-1.h5"), "bad")
    assert damaged.path.name in str(damaged)
    assert "index its folder again" in str(damaged)


def test_a_path_outside_says_which_folders_may_be_used() -> None:
    assert "photos (/p)" in str(OutsideLibrary("/etc", ["photos (/p)"]))
    assert "none is set" in str(OutsideLibrary("/etc", []))
