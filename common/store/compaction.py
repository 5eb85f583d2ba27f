"""Compaction: merges small segments into large ones and reclaims the rows that no longer count.

Nothing is locked. The merged segment holds the rows with their sequence numbers unchanged, so it may be there
together with its sources in any combination: a process killed at any point leaves a correct store.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import numpy as np

from common.store.catalog import SegmentRow
from common.store.feature_store import FeatureStore
from common.store.segment import SUFFIX, ImageRecord, Tombstone

TARGET_ROWS = 65_536
# An abandoned temporary file is certainly not being written any more after this time.
STALE_TEMPORARY_SECONDS = 24 * 3600
# A batch of an old job may still publish records older than a tombstone; after this time none will.
KEEP_TOMBSTONES_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction did."""

    merged: int
    written: int
    removed_temporaries: int


def compact(store: FeatureStore, target_rows: int = TARGET_ROWS) -> CompactionReport:
    """Merges the store's small segments; those of `target_rows` live rows or more are left alone.

    Returns:
        How many segments were merged, and into how many.
    """
    store.refresh()
    removed = _remove_stale_temporaries(store)
    merged = written = 0
    for group in _groups(store, target_rows):
        merged += len(group)
        written += _merge(store, group)
    store.refresh()
    return CompactionReport(merged, written, removed)


def _groups(store: FeatureStore, target_rows: int) -> list[list[SegmentRow]]:
    """Segments worth merging, in groups of one precision with at most `target_rows` live rows."""
    groups: list[list[SegmentRow]] = []
    by_precision: dict[str, list[tuple[SegmentRow, int]]] = {}
    for row in store.catalog.segments():
        live = store.catalog.live_count(row.id)
        mostly_dead = live < 0.7 * row.count
        if row.count < target_rows // 2 or mostly_dead:
            by_precision.setdefault(row.precision, []).append((row, live))
    for rows in by_precision.values():
        group: list[SegmentRow] = []
        size = 0
        for row, live in rows:
            if group and size + live > target_rows:
                groups.append(group)
                group, size = [], 0
            group.append(row)
            size += live
        groups.append(group)
    return [group for group in groups if len(group) > 1 or _worth_alone(store, group)]


def _worth_alone(store: FeatureStore, group: list[SegmentRow]) -> bool:
    return bool(group) and store.catalog.live_count(group[0].id) < 0.7 * group[0].count


def _merge(store: FeatureStore, group: list[SegmentRow]) -> int:
    records: list[ImageRecord] = []
    thumbnails: list[bytes] = []
    features = []
    for row in group:
        segment = store.segment(row.name)
        live = store.catalog.rows(row.id)
        all_records = segment.records()
        records += [all_records[number] for number in live]
        thumbnails += segment.thumbnails(live)
        features.append(segment.features[live])
    horizon = time.time_ns() - KEEP_TOMBSTONES_SECONDS * 10**9
    tombstones = [
        Tombstone(path, sequence)
        for path, sequence in store.catalog.tombstones([row.id for row in group])
        if sequence > horizon
    ]
    names = sorted(row.name for row in group)
    if records or tombstones:
        # The name follows from the sources: two compactions of the same group publish one segment.
        label = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        store.publish(
            f"merged-{label}",
            precision=group[0].precision,
            records=records,
            features=np.concatenate(features),
            thumbnails=thumbnails,
            tombstones=tombstones,
        )
    store.refresh()
    for name in names:
        # Readers that have it mapped keep their mapping; the others find its rows in the merged segment.
        (store.segments_path / f"{name}{SUFFIX}").unlink(missing_ok=True)
    return int(bool(records or tombstones))


def _remove_stale_temporaries(store: FeatureStore) -> int:
    removed = 0
    for path in store.segments_path.glob(".*.tmp"):
        if time.time() - path.stat().st_mtime > STALE_TEMPORARY_SECONDS:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
