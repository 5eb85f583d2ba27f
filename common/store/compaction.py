"""Compaction: merges small segments into large ones and reclaims the rows that no longer count.

Nothing is locked. The merged segment holds the rows with their sequence numbers unchanged, so it may be there
together with its sources in any combination: a process killed at any point leaves a correct store.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from common.store.catalog_rows import SegmentRow
from common.store.feature_store import FeatureStore
from common.store.replaced import mark_replaced, remove_replaced, replaced_names
from common.store.segment import SUFFIX, ImageRecord, SegmentContent, Tombstone

TARGET_ROWS = 65_536
# A merged segment is put together in memory, which takes about twice its size.
TARGET_BYTES = 512 * 2**20
# An abandoned temporary file is certainly not being written any more after this time.
STALE_TEMPORARY_SECONDS = 24 * 3600
# A batch of an old job may still publish records older than a tombstone; after this time none will. Then the
# tombstone is dropped as soon as no segment holds a row that it ends.
KEEP_TOMBSTONES_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction did."""

    merged: int
    written: int
    removed_temporaries: int


def compact(
    store: FeatureStore, target_rows: int = TARGET_ROWS, *, lazily: bool = False, keep_seconds: float = 0.0
) -> CompactionReport:
    """Merges the store's small segments; large ones are left alone.

    Args:
        store: The store.
        target_rows: The most live rows of a merged segment.
        lazily: Merge a segment only with smaller ones that together have as many rows: then a row is rewritten a
            few times in its life and not after every job (size-tiered compaction, as in Bigtable, Chang et al. 2006).
        keep_seconds: How long segments stay that were merged, for programs that copy the folder meanwhile.

    Returns:
        How many segments were merged, and into how many.
    """
    store.refresh()
    store.check_version()  # a tombstone may still end a row that cannot be read here
    removed = _remove_stale_temporaries(store)
    remove_replaced(store, keep_seconds)
    merged = written = 0
    for group in _groups(store, target_rows, lazily=lazily):
        outcome = _merge(store, group, keep_seconds)
        if outcome is not None:
            merged += len(group)
            written += outcome
    store.refresh()
    return CompactionReport(merged, written, removed)


def _groups(store: FeatureStore, target_rows: int, *, lazily: bool) -> list[list[SegmentRow]]:
    """Segments worth merging, in groups of one precision with at most `target_rows` live rows and `TARGET_BYTES`."""
    groups: list[list[SegmentRow]] = []
    by_precision: dict[str, list[tuple[SegmentRow, int]]] = {}
    replaced = replaced_names(store.segments_path)  # those that nothing was left of are still in the catalog
    for row in store.catalog.segments():
        if row.name in replaced:
            continue
        live = store.catalog.live_count(row.id)
        mostly_dead = live < 0.7 * row.count
        is_small = row.count < target_rows // 2 and row.size < TARGET_BYTES // 2
        if is_small or mostly_dead:
            by_precision.setdefault(row.precision, []).append((row, live))
    for rows in by_precision.values():
        group: list[SegmentRow] = []
        size = weight = 0
        for row, live in sorted(rows, key=lambda item: item[1]) if lazily else rows:
            too_large = lazily and live > size
            live_bytes = row.size * live // max(1, row.count)
            if group and (size + live > target_rows or weight + live_bytes > TARGET_BYTES or too_large):
                groups.append(group)
                group, size, weight = [], 0, 0
            group.append(row)
            size, weight = size + live, weight + live_bytes
        groups.append(group)
    return [group for group in groups if len(group) > 1 or _worth_alone(store, group)]


def _worth_alone(store: FeatureStore, group: list[SegmentRow]) -> bool:
    return bool(group) and store.catalog.live_count(group[0].id) < 0.7 * group[0].count


def _merge(store: FeatureStore, group: list[SegmentRow], keep_seconds: float) -> int | None:
    """Merges a group. Returns how many segments it became, or None if another process changed it meanwhile."""
    names = sorted(row.name for row in group)
    try:
        merged = _content(store, names)
    except FileNotFoundError:
        return None
    if merged is None:
        return None
    target = None
    if merged.records or merged.tombstones:
        # The name follows from the sources: two compactions of the same group publish one segment.
        label = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        target = f"merged-{label}"
        store.publish(
            target,
            precision=group[0].precision,
            records=merged.records,
            features=merged.features,
            thumbnails=merged.thumbnails,
            tombstones=merged.tombstones,
        )
    store.refresh()
    if keep_seconds:
        mark_replaced(store.segments_path, names, target)
    else:
        for name in names:
            # Readers that have it mapped keep their mapping; the others find its rows in the merged segment.
            (store.segments_path / f"{name}{SUFFIX}").unlink(missing_ok=True)
    return int(target is not None)


def _content(store: FeatureStore, names: list[str]) -> SegmentContent | None:
    """What still counts of some segments, or None if the catalog has changed under the reading."""
    records: list[ImageRecord] = []
    thumbnails: list[bytes] = []
    features = []
    ids = _ids(store)
    if not ids.keys() >= set(names):
        return None
    for name in names:
        segment = store.segment(name)
        live = store.catalog.rows(ids[name])
        all_records = segment.records()
        records += [all_records[number] for number in live]
        thumbnails += segment.thumbnails(live)
        features.append(segment.features[live])
    tombstones = [Tombstone(*row) for row in store.catalog.tombstones([ids[name] for name in names])]
    if {name: ids[name] for name in names}.items() - _ids(store).items():
        return None  # a catalog made anew has other ids: then the rows that were read may be none
    horizon = time.time_ns() - KEEP_TOMBSTONES_SECONDS * 10**9
    needed = _needed(store, {old.public_path: old.sequence for old in tombstones if old.sequence <= horizon})
    kept = [item for item in tombstones if item.sequence > horizon or item.public_path in needed]
    return SegmentContent(np.concatenate(features), records, thumbnails, kept)


def _ids(store: FeatureStore) -> dict[str, int]:
    return {row.name: row.id for row in store.catalog.segments()}


def _needed(store: FeatureStore, tombstones: dict[str, int]) -> set[str]:
    """The paths of tombstones without which a dead row that is still in some segment would count again."""
    needed: set[str] = set()
    for row in store.catalog.segments():
        if tombstones and store.catalog.live_count(row.id) < row.count:
            records = store.segment(row.name).records()
            paths = (
                record.public_path for record in records if record.sequence < tombstones.get(record.public_path, 0)
            )
            needed.update(paths)
    return needed


def _remove_stale_temporaries(store: FeatureStore) -> int:
    removed = 0
    for path in store.segments_path.glob(".*.tmp"):
        with suppress(FileNotFoundError):  # just published
            if time.time() - path.stat().st_mtime > STALE_TEMPORARY_SECONDS:
                path.unlink()
                removed += 1
    return removed
