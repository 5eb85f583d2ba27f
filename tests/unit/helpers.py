"""Builders that many unit tests share."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from common.models import ModelSpec
from common.store import FeatureStore, ImageRecord, Tombstone
from tests.fakes import FAKE_SPEC

REPOSITORY = Path(__file__).parents[2]
SPEC = FAKE_SPEC
OTHER_SPEC = SPEC.model_copy(update={"weights_sha256": "1" * 64})

Vector = npt.NDArray[np.float32]


# --- features and records ------------------------------------------------------------------------------------


def unit_vectors(count: int, seed: int = 0, dimension: int = SPEC.dimension) -> Vector:
    """Random features of length 1, one a row."""
    vectors = np.random.default_rng(seed).normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def vector_of(text: str) -> Vector:
    """A feature of length 1 that follows from a text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return unit_vectors(1, seed)[0]


def record(public_path: str, sequence: int = 1, content: str | None = None) -> ImageRecord:
    """A record whose every field follows from its path, sequence and content."""
    root, _, path = public_path.partition("/")
    text = content or f"{public_path}@{sequence}"
    return ImageRecord(
        root=root,
        path=path,
        size=1000 + len(text),
        mtime_ns=1_700_000_000_123_456_789 + sequence,
        content_hash=hashlib.sha256(text.encode()).digest(),
        width=640 + sequence % 100,
        height=480,
        sequence=sequence,
    )


def feature_of(row: ImageRecord) -> Vector:
    """The feature that `publish` gives to a record: it follows from the content."""
    return vector_of(row.content_hash.hex())


def thumbnail_of(row: ImageRecord) -> bytes:
    """The thumbnail that `publish` gives to a record; of varying length."""
    return b"thumbnail:" + row.content_hash[: 1 + row.content_hash[0] % 30]


def make_store(folder: Path, spec: ModelSpec = SPEC, cache: str = "cache") -> FeatureStore:
    """A store below `folder`; another `cache` is another host's view of the same store."""
    return FeatureStore(spec.store_path(folder), spec, folder / cache)


def publish(
    store: FeatureStore,
    name: str,
    records: Sequence[ImageRecord | str] = (),
    tombstones: Mapping[str, int] | None = None,
    precision: str = "float32",
) -> None:
    """Publishes a segment; a text stands for a record of that path with sequence 1."""
    rows = [record(row) if isinstance(row, str) else row for row in records]
    store.publish(
        name,
        precision=precision,
        records=rows,
        features=np.array([feature_of(row) for row in rows], np.float32).reshape(len(rows), store.spec.dimension),
        thumbnails=[thumbnail_of(row) for row in rows],
        tombstones=[Tombstone(path, sequence) for path, sequence in (tombstones or {}).items()],
    )


def segment_file(store: FeatureStore, name: str) -> Path:
    """The file of a segment."""
    return store.segments_path / f"{name}.h5"


def live(store: FeatureStore) -> dict[str, int]:
    """The live images as the catalog has them after a refresh: path to sequence."""
    store.refresh()
    return {entry.path: entry.record.sequence for entry in store.catalog.below(None)}


# --- pictures ------------------------------------------------------------------------------------------------


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """A random RGB picture."""
    samples = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(samples)


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def add_picture(library: Path, relative: str, seed: int = 0) -> Path:
    """Writes a random PNG into the library, whatever its name."""
    path = library / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(noise(seed=seed)))
    return path


# --- processes -----------------------------------------------------------------------------------------------


def start_python(code: str, *arguments: object, **environ: str) -> subprocess.Popen[str]:
    """Starts Python on `code` from the repository, with `arguments` in `sys.argv[1:]`."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def python_json(code: str, *arguments: object, **environ: str) -> Any:
    """Runs Python on `code` and parses what it prints as JSON."""
    process = start_python(code, *arguments, **environ)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return json.loads(output)
