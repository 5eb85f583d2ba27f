from __future__ import annotations

import io
import threading

import pytest
from PIL import Image

from common.images import ImageDecoder
from common.settings import Settings
from tests.unit.helpers import encoded, noise
from workers.previews import PreviewMaker

PICTURES = [encoded(noise(40 + number, 30, seed=number)) for number in range(6)]


class Shelf:
    """Where previews are kept: it tells the size of each picture by the search and number of its upload."""

    def __init__(self) -> None:
        self.sizes: dict[tuple[str, int], tuple[int, int]] = {}
        self.errors: list[Exception] = []

    def keep(self, search_id: str, number: int, picture: bytes) -> None:
        if self.errors:
            raise self.errors.pop()
        with Image.open(io.BytesIO(picture)) as image:
            assert image.format == "JPEG"
            self.sizes[search_id, number] = image.size


class Quiet:
    """Lets previews be made one by one, as the test says."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def wait(self, seconds: float, patience: float) -> None:
        assert 0 < seconds < patience
        self.entered.release()
        assert self.go.acquire(timeout=20)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def decoder() -> ImageDecoder:
    return ImageDecoder.for_uploads(Settings(max_upload_bytes=1_000_000))


def test_each_upload_of_a_search_gets_its_preview(shelf: Shelf, decoder: ImageDecoder) -> None:
    maker = PreviewMaker(decoder, shelf.keep, lambda *_: None)
    maker.submit("one", PICTURES[:3])
    maker.submit("none", [])
    maker.submit("two", PICTURES[3:4])
    maker.stop()
    assert shelf.sizes == {("one", 0): (40, 30), ("one", 1): (41, 30), ("one", 2): (42, 30), ("two", 0): (43, 30)}


def test_nobody_waits_for_it_and_it_waits_for_quiet(shelf: Shelf, decoder: ImageDecoder) -> None:
    quiet = Quiet()
    maker = PreviewMaker(decoder, shelf.keep, quiet.wait)
    maker.submit("one", PICTURES[:1])
    assert quiet.entered.acquire(timeout=20)
    maker.submit("two", PICTURES[1:2])
    assert shelf.sizes == {}
    quiet.go.release()
    assert quiet.entered.acquire(timeout=20)
    assert list(shelf.sizes) == [("one", 0)]
    quiet.go.release()
    maker.stop()
    assert list(shelf.sizes) == [("one", 0), ("two", 0)]


def test_under_pressure_the_oldest_are_dropped(shelf: Shelf, decoder: ImageDecoder) -> None:
    quiet = Quiet()
    limit = len(PICTURES[4]) + len(PICTURES[5])
    maker = PreviewMaker(decoder, shelf.keep, quiet.wait, most_waiting_bytes=limit)
    for number, picture in enumerate(PICTURES):
        maker.submit(str(number), [picture])
    quiet.go.release(len(PICTURES))
    maker.stop()
    assert list(shelf.sizes) == [("4", 0), ("5", 0)]


def test_what_is_too_large_to_wait_is_dropped(shelf: Shelf, decoder: ImageDecoder) -> None:
    maker = PreviewMaker(decoder, shelf.keep, lambda *_: None, most_waiting_bytes=len(PICTURES[0]) - 1)
    maker.submit("large", PICTURES[:1])
    maker.stop()
    assert shelf.sizes == {}


def test_a_picture_that_cannot_be_decoded_has_none(
    shelf: Shelf, decoder: ImageDecoder, caplog: pytest.LogCaptureFixture
) -> None:
    maker = PreviewMaker(decoder, shelf.keep, lambda *_: None)
    maker.submit("one", [b"text", PICTURES[0][:300], PICTURES[1]])
    maker.stop()
    assert list(shelf.sizes) == [("one", 2)]
    # The search has failed for that reason, and says so.
    assert caplog.text == ""


def test_a_failure_does_not_end_it(shelf: Shelf, decoder: ImageDecoder, caplog: pytest.LogCaptureFixture) -> None:
    shelf.errors.append(ConnectionError("Redis is away"))
    maker = PreviewMaker(decoder, shelf.keep, lambda *_: None)
    maker.submit("one", PICTURES[:2])
    maker.stop()
    assert list(shelf.sizes) == [("one", 1)]
    assert "of search one could not be made" in caplog.text
