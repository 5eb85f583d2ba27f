"""One sealed segment: an immutable HDF5 file of features with the records of their images.

The layout is written down in `docs/store-format.md`. A segment is written under a temporary name, flushed, and
published by one atomic step; it is never changed afterwards, so it needs no lock, and readers map its features
into memory and share them between processes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from common import __version__
from common.errors import SegmentDamaged, StoreUnreadable, UnsupportedFormatVersion
from common.files import atomic_path
from common.models import ModelSpec

FORMAT = "imagesearch-segment"
FORMAT_VERSION = 1
OLDEST_FORMAT_VERSION = 1
SUFFIX = ".h5"

Features = npt.NDArray[np.float16]

# What h5py raises for a damaged file depends on what it stumbles over.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What a segment says of one image.

    `sequence` orders the records of one path: the highest wins. It is that of the job that read the file.
    """

    root: str
    path: str
    size: int
    mtime_ns: int
    content_hash: bytes
    width: int
    height: int
    sequence: int

    @property
    def public_path(self) -> str:
        """`ROOT_NAME/relative/path`."""
        return f"{self.root}/{self.path}"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Says that an image is gone: older records of this public path no longer count."""

    public_path: str
    sequence: int


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """All that goes into a segment. `features` is (n, d); records and thumbnails (encoded images) are n each."""

    features: npt.NDArray[np.floating[Any]]
    records: Sequence[ImageRecord]
    thumbnails: Sequence[bytes]
    tombstones: Sequence[Tombstone] = ()


def write_segment(directory: Path, name: str, spec: ModelSpec, precision: str, content: SegmentContent) -> Path:
    """Publishes a segment. If one of this name is there already, nothing happens: the work was done before.

    Args:
        directory: The store's folder of segments.
        name: The segment's name without suffix.
        spec: The model that the features come from.
        precision: The arithmetic they were computed in, such as `float32`.
        content: The rows. Features are stored as float16.

    Returns:
        The path of the published segment.

    Raises:
        ValueError: The parts do not have the same number of rows, or the features not the model's dimension.
        OSError: It cannot be written, for instance because the disk is full. Nothing is published then.
    """
    count = len(content.records)
    if content.features.shape != (count, spec.dimension) or len(content.thumbnails) != count:
        raise ValueError(
            f"{count} records, {len(content.thumbnails)} thumbnails, features of shape {content.features.shape}"
        )
    target = directory / f"{name}{SUFFIX}"
    if target.exists():
        return target
    with (
        atomic_path(target, overwrite=False) as temporary,
        _disk_errors(target),
        # Page-aligned, so that the features can be mapped without a shift.
        h5py.File(temporary, "w", alignment_threshold=4096, alignment_interval=4096) as file,
    ):
        digests = {key: _write(file, key, value) for key, value in _datasets(content).items()}
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["software_version"] = __version__
        file.attrs["created"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        file.attrs["fingerprint"] = spec.fingerprint
        file.attrs["model"] = spec.model_dump_json()
        file.attrs["precision"] = precision
        file.attrs["dimension"] = spec.dimension
        file.attrs["sha256"] = json.dumps(digests)
        file.flush()
    return target


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    """On a full disk HDF5 fails to close a file with an error that is no `OSError`."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EIO, f"{target} cannot be written: {error}") from error


def _datasets(content: SegmentContent) -> dict[str, npt.NDArray[Any] | list[str]]:
    records = content.records
    roots = sorted({record.root for record in records})
    lengths = np.array([len(thumbnail) for thumbnail in content.thumbnails], np.uint64)
    hashes = b"".join(record.content_hash for record in records)
    return {
        # Cast by NumPy: the same cast inside the HDF5 write is 50 times slower.
        "features": np.ascontiguousarray(content.features, dtype=np.float16),
        "roots": roots,
        "root": np.array([roots.index(record.root) for record in records], np.uint16),
        "path": [record.path for record in records],
        "size": np.array([record.size for record in records], np.uint64),
        "mtime_ns": np.array([record.mtime_ns for record in records], np.int64),
        "content_hash": np.frombuffer(hashes, np.uint8).reshape(len(records), 32),
        "width": np.array([record.width for record in records], np.uint32),
        "height": np.array([record.height for record in records], np.uint32),
        "sequence": np.array([record.sequence for record in records], np.uint64),
        "thumbnails": np.frombuffer(b"".join(content.thumbnails), np.uint8),
        "thumbnail_offsets": np.concatenate([np.zeros(1, np.uint64), np.cumsum(lengths, dtype=np.uint64)]),
        "tombstone_path": [tombstone.public_path for tombstone in content.tombstones],
        "tombstone_sequence": np.array([tombstone.sequence for tombstone in content.tombstones], np.uint64),
    }


def _write(file: h5py.File, key: str, value: npt.NDArray[Any] | list[str]) -> str:
    if isinstance(value, list):
        file.create_dataset(key, data=value, dtype=h5py.string_dtype(), shape=(len(value),))
    else:
        file.create_dataset(key, data=value)
    return _digest(value)


def _digest(value: npt.NDArray[Any] | list[str]) -> str:
    if isinstance(value, list):
        return hashlib.sha256(b"\0".join(text.encode() for text in value)).hexdigest()
    return hashlib.sha256(np.ascontiguousarray(value).view(np.uint8).reshape(-1).data).hexdigest()


class Segment:
    """A published segment, open for reading. Its features are mapped, not loaded.

    The file itself is closed again after each access to the records, so that thousands of segments do not cost
    thousands of open files; the mapping stays valid even after the file was deleted.
    """

    def __init__(self, path: Path) -> None:
        """Opens a segment.

        Raises:
            FileNotFoundError: It is gone, for instance because it was compacted away.
            SegmentDamaged: Its content makes no sense, or is no segment.
            StoreUnreadable: The system does not let us read it at present.
            UnsupportedFormatVersion: Another version of the software wrote it.
        """
        self.path = path
        self.name = path.stem
        with _reading(path) as file:
            attributes = dict(file.attrs)
            features = file["features"]
            self.count, self.dimension = (int(size) for size in features.shape)
            self.spec = ModelSpec.model_validate_json(attributes["model"])
            self.fingerprint = str(attributes["fingerprint"])
            self.precision = str(attributes["precision"])
            self.created = str(attributes["created"])
            self._digests: dict[str, str] = dict(json.loads(attributes["sha256"]))
            self._features = self._map(features.id.get_offset())

    def _map(self, offset: int | None) -> Features:
        if self.count == 0 or offset is None:
            return np.zeros((0, self.dimension), np.float16)
        if offset + self.count * self.dimension * 2 > self.path.stat().st_size:
            raise SegmentDamaged(self.path, "the file is cut off")
        shape = (self.count, self.dimension)
        return np.memmap(self.path, dtype=np.float16, mode="r", offset=offset, shape=shape)

    @property
    def features(self) -> Features:
        """The features, (n, d) float16, mapped read-only."""
        return self._features

    @property
    def identity(self) -> bytes:
        """What the segment holds, as 32 bytes that follow from its checksums: what is derived from it keeps them."""
        return hashlib.sha256(json.dumps(self._digests, sort_keys=True).encode()).digest()

    def records(self) -> list[ImageRecord]:
        """The records of all rows, in the order of the features."""
        with _reading(self.path) as file:
            roots = _strings(file, "roots")
            numbers = ("root", "size", "mtime_ns", "width", "height", "sequence")
            columns = {key: file[key][:].tolist() for key in numbers}
            hashes = file["content_hash"][:]
            paths = _strings(file, "path")
            return [
                ImageRecord(
                    root=roots[columns["root"][row]],
                    path=paths[row],
                    size=columns["size"][row],
                    mtime_ns=columns["mtime_ns"][row],
                    content_hash=hashes[row].tobytes(),
                    width=columns["width"][row],
                    height=columns["height"][row],
                    sequence=columns["sequence"][row],
                )
                for row in range(self.count)
            ]

    def tombstones(self) -> list[Tombstone]:
        """The tombstones that were published with this segment."""
        with _reading(self.path) as file:
            sequences = file["tombstone_sequence"][:].tolist()
            return [
                Tombstone(path, sequence)
                for path, sequence in zip(_strings(file, "tombstone_path"), sequences, strict=True)
            ]

    def thumbnail(self, row: int) -> bytes:
        """The encoded thumbnail of a row."""
        with _reading(self.path) as file:
            start, end = file["thumbnail_offsets"][row : row + 2].tolist()
            data: bytes = file["thumbnails"][start:end].tobytes()
            return data

    def thumbnails(self, rows: Sequence[int]) -> Iterator[bytes]:
        """The encoded thumbnails of many rows, opening the file once."""
        with _reading(self.path) as file:
            offsets = file["thumbnail_offsets"][:].tolist()
            for row in rows:
                yield file["thumbnails"][offsets[row] : offsets[row + 1]].tobytes()

    def verify(self) -> list[str]:
        """Reads everything again and compares it with the checksums. Returns the problems found."""
        problems = []
        with _reading(self.path) as file:
            for key, digest in self._digests.items():
                try:
                    value = _strings(file, key) if file[key].dtype.kind == "O" else file[key][:]
                except _DAMAGE as error:
                    problems.append(f"{key} cannot be read: {error}")
                    continue
                if _digest(value) != digest:
                    problems.append(f"{key} differs from its checksum")
        if not problems and not np.isfinite(self._features).all():
            problems.append("features hold values that are no numbers")
        return problems


@contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    """Opens a segment. Whatever HDF5 or the block stumbles over in a damaged file becomes `SegmentDamaged`, and what
    the system refuses `StoreUnreadable`.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("format") != FORMAT:
                raise SegmentDamaged(path, "it is not a segment of the feature store")
            version = int(file.attrs["format_version"])
            if not OLDEST_FORMAT_VERSION <= version <= FORMAT_VERSION:
                raise UnsupportedFormatVersion(path, version, FORMAT_VERSION)
            yield file
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        if not path.exists():  # compacted away while it was being opened: HDF5 has other words for that
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        if isinstance(error, OSError) and error.errno is not None:
            # The system's word, such as "too many open files" or "input/output error". A damaged file has no number.
            raise StoreUnreadable(path, error) from error
        raise SegmentDamaged(path, error) from error


def _strings(file: h5py.File, key: str) -> list[str]:
    values = file[key][:]
    return [value.decode() for value in values]
