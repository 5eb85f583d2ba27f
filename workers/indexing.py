"""Indexes one batch of files: read ahead, embed, publish one segment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from common.library import Location
from common.stopwatch import StopWatch
from common.store import FeatureStore, ImageRecord, StoredContent, Tombstone
from workers.decoding import FailedFile, FileReader, ReadFile
from workers.extractor import FeatureExtractor

REPORT_EVERY_SECONDS = 1.0


@dataclass
class BatchOutcome:
    """What became of the files of a batch.

    Attributes:
        done: Files that are indexed now, `duplicates` included.
        duplicates: Files whose content was stored already.
        failed: Path to what is wrong.
        reasons: How many failed for which kind of reason.
        seconds: What the batch took, by the stages of `common.index_metrics`.
    """

    done: int = 0
    duplicates: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter, compare=False)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    def fail(self, public_path: str, error: str, reason: str) -> None:
        """Notes a file that could not be indexed."""
        self.failed[public_path] = error
        self.reasons[reason] += 1


@dataclass
class _Rows:
    """The rows of the segment that is being made."""

    records: list[ImageRecord] = field(default_factory=list)
    features: list[npt.NDArray[Any]] = field(default_factory=list)
    thumbnails: list[bytes] = field(default_factory=list)
    by_hash: dict[bytes, int] = field(default_factory=dict)
    tombstones: list[Tombstone] = field(default_factory=list)

    def add(self, record: ImageRecord, feature: npt.NDArray[Any], thumbnail: bytes) -> None:
        self.by_hash.setdefault(record.content_hash, len(self.records))
        self.records.append(record)
        self.features.append(feature)
        self.thumbnails.append(thumbnail)

    def content(self, content_hash: bytes) -> StoredContent | None:
        """What this batch has already made of the content."""
        row = self.by_hash.get(content_hash)
        if row is None:
            return None
        record = self.records[row]
        return StoredContent(self.features[row], self.thumbnails[row], record.width, record.height)


class BatchIndexer:
    """Turns batches of files into segments.

    Args:
        extractor: The model.
        store: Where the segments go.
        reader: Reads and decodes the files.
    """

    def __init__(self, extractor: FeatureExtractor, store: FeatureStore, reader: FileReader) -> None:
        self._extractor = extractor
        self._store = store
        self._reader = reader
        # One pass of pictures, used again and again: new memory costs more than the copying.
        self._pixels = np.empty((extractor.full_batch, *extractor.spec.input_size, 3), np.uint8)

    def run(self, name: str, public_paths: Sequence[str], sequence: int, report: Callable[[int], None]) -> BatchOutcome:
        """Indexes files and publishes them as one segment; repeating it adds nothing.

        Args:
            name: The segment's name.
            public_paths: The files.
            sequence: The job's sequence number, for the records.
            report: Told now and then how many files are through.

        Raises:
            OSError: The segment cannot be written. Nothing is published then.
        """
        watch, read, decode = StopWatch(), 0.0, 0.0
        self._store.refresh()
        rows, outcome, waiting, reported_at = _Rows(), BatchOutcome(), list[ReadFile](), time.monotonic()
        for number, item in enumerate(self._reader.read_ahead(public_paths), start=1):
            watch.lap("wait")
            if isinstance(item, FailedFile):
                self._fail(item, rows, sequence, outcome)
            else:
                waiting.append(item)
                read, decode = read + item.read_seconds, decode + item.decode_seconds
            if sum(file.image is not None for file in waiting) >= self._extractor.full_batch:
                self._embed(waiting, rows, sequence, outcome)
                waiting.clear()
                watch.lap("embed")
            if time.monotonic() - reported_at >= REPORT_EVERY_SECONDS:
                reported_at = time.monotonic()
                report(number - len(waiting))
        self._embed(waiting, rows, sequence, outcome)
        watch.lap("embed")
        self._publish(name, rows)
        watch.lap("publish")
        took = {stage: milliseconds / 1000 for stage, milliseconds in watch.took_ms().items()}
        outcome.seconds = {"read": read, "decode": decode, **took}
        return outcome

    def _embed(self, files: Sequence[ReadFile], rows: _Rows, sequence: int, outcome: BatchOutcome) -> None:
        """Embeds the files whose content is new; the others get the feature that is there."""
        new: dict[bytes, ReadFile] = {}
        for file in files:
            if file.image is not None and file.content_hash not in rows.by_hash:
                new.setdefault(file.content_hash, file)
        images = [file.image for file in new.values() if file.image is not None]
        if images:
            pixels = np.stack([image.pixels for image in images], out=self._pixels[: len(images)])
            features = self._extractor.extract(pixels).astype(np.float16)
            for file, image, feature in zip(new.values(), images, features, strict=True):
                rows.add(_record(file, image.width, image.height, sequence), feature, image.thumbnail)
                outcome.done += 1
        for file in files:
            if new.get(file.content_hash) is not file:
                self._copy(file, rows, sequence, outcome)

    def _copy(self, file: ReadFile, rows: _Rows, sequence: int, outcome: BatchOutcome) -> None:
        """Adds a row for content that was embedded before, in this batch or an earlier one."""
        content = rows.content(file.content_hash) or self._store.content(file.content_hash)
        if content is None:
            # It was stored when the file was read, and its segment has been compacted away since.
            again = self._reader.read(file.public_path)
            if isinstance(again, FailedFile):
                self._fail(again, rows, sequence, outcome)
            else:
                self._embed([again], rows, sequence, outcome)
            return
        rows.add(_record(file, content.width, content.height, sequence), content.feature, content.thumbnail)
        outcome.done += 1
        outcome.duplicates += 1

    def _fail(self, file: FailedFile, rows: _Rows, sequence: int, outcome: BatchOutcome) -> None:
        outcome.fail(file.public_path, file.error, file.reason)
        if file.is_lasting and self._store.catalog.by_path(file.public_path) is not None:
            rows.tombstones.append(Tombstone(file.public_path, sequence))

    def _publish(self, name: str, rows: _Rows) -> None:
        if rows.records or rows.tombstones:
            self._store.publish(
                name,
                precision=self._extractor.precision,
                records=rows.records,
                features=np.stack(rows.features) if rows.records else None,
                thumbnails=rows.thumbnails,
                tombstones=rows.tombstones,
            )


def _record(file: ReadFile, width: int, height: int, sequence: int) -> ImageRecord:
    location = Location.parse(file.public_path)
    return ImageRecord(
        root=location.root,
        path=location.relative,
        size=file.size,
        mtime_ns=file.mtime_ns,
        content_hash=file.content_hash,
        width=width,
        height=height,
        sequence=sequence,
    )
