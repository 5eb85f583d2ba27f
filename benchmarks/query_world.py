"""What searches are measured on: an index of many images, the same features for the old page, photos to add."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.system import Precision, System, environment, free_port, wait_until
from common.images import make_thumbnail
from common.settings import LibraryRoot, Settings
from common.store import ImageRecord, open_store

_SEGMENT_ROWS = 5000
_DIMENSION = 4096


@dataclass(frozen=True)
class Collection:
    """Photos that stand for many images: each photo appears under several roots, with another feature each time."""

    photos: list[Path]
    sizes: list[tuple[int, int]]
    thumbnails: list[bytes]
    features: npt.NDArray[np.float16]

    @classmethod
    def make(cls, photos: list[Path], count: int) -> Collection:
        """Features are made up: how long the ranking takes does not depend on their values."""
        sizes, thumbnails = [], []
        for photo in photos[:count]:
            with Image.open(photo) as image:
                sizes.append(image.size)
                thumbnails.append(make_thumbnail(image))
        # Like features after a ReLU: not negative, about half of them zero, of length 1.
        features = np.random.default_rng(0).standard_normal((count, _DIMENSION), np.float32)
        np.maximum(features, 0, out=features)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return cls(photos[:count], sizes, thumbnails, features.astype(np.float16))

    @property
    def roots(self) -> tuple[LibraryRoot, ...]:
        """As many roots on the folder of photos as it takes to give each image a path of its own."""
        number = -(-len(self.features) // len(self.photos))
        folder = self.photos[0].parent.absolute()
        return tuple(LibraryRoot(name=f"images-{index}", path=folder) for index in range(number))

    def records(self) -> Iterator[ImageRecord]:
        """A record for each feature."""
        for number in range(len(self.features)):
            place = number % len(self.photos)
            photo, (width, height) = self.photos[place], self.sizes[place]
            status = photo.stat()
            yield ImageRecord(
                root=f"images-{number // len(self.photos)}",
                path=photo.name,
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                content_hash=number.to_bytes(32, "big"),
                width=width,
                height=height,
                sequence=1,
            )

    def publish(self, settings: Settings, precision: str) -> None:
        """Fills the store of a system whose worker has loaded the model."""
        store = open_store(settings)
        records = list(self.records())
        for start in range(0, len(records), _SEGMENT_ROWS):
            rows = range(start, min(start + _SEGMENT_ROWS, len(records)))
            store.publish(
                f"made-{start}",
                precision=precision,
                records=[records[row] for row in rows],
                features=self.features[rows.start : rows.stop],
                thumbnails=[self.thumbnails[row % len(self.photos)] for row in rows],
            )

    def save_for_old_page(self, folder: Path) -> None:
        """Writes `features.npy` (float32, as the old one had them) and `paths.txt`."""
        np.save(folder / "features.npy", self.features.astype(np.float32))
        (folder / "paths.txt").write_text("\n".join(record.public_path for record in self.records()))


def system_for(
    collection: Collection, bulk: Path, folder: Path, url: str, *, weights: str, precision: Precision
) -> System:
    """A system without workers on an empty data folder; the photos to add are its root `more`."""
    folder.mkdir()
    settings = Settings(
        redis_url=url,
        data_dir=folder / "data",
        library_roots=(*collection.roots, LibraryRoot(name="more", path=bulk.absolute())),
        model="vgg16",
        weights=weights,
        precision=precision,
    )
    return System(settings, folder)


@contextmanager
def running_old_page(folder: Path, weights: str) -> Iterator[str]:
    """The old page in a process of its own, on what `save_for_old_page` wrote. Gives its address."""
    port = free_port()
    uploads = folder / "uploads"
    uploads.mkdir()
    command = [sys.executable, "-m", "benchmarks.old_page", "--port", str(port), "--uploads", str(uploads)]
    command += ["--features", str(folder / "features.npy"), "--paths", str(folder / "paths.txt")]
    if weights != "untrained":
        command += ["--weights", weights]
    address = f"http://127.0.0.1:{port}"
    with (folder / "old_page.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(Settings()), stdout=log, stderr=log)

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"the old page ended:\n{(folder / 'old_page.log').read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    try:
        wait_until(answers, "the old page answers", every=0.5)
        yield address
    finally:
        process.kill()
        process.wait()
