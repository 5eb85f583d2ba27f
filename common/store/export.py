"""Export: the live features of a store as one plain HDF5 file for a notebook."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from common.files import atomic_path
from common.store.catalog_rows import CatalogEntry
from common.store.feature_store import FeatureStore

_BLOCK_ROWS = 4096


def export(store: FeatureStore, target: Path) -> int:
    """Writes `features` (n, d) float32 and `paths` (n) UTF-8 strings, one row a path, in the order of paths.

    Args:
        store: The store.
        target: The file; replaced if it exists, whole or not at all.

    Returns:
        The number of images written.

    Raises:
        UnsupportedFormatVersion: Part of the store cannot be read.
    """
    store.refresh()
    store.check_version()
    names = {row.id: row.name for row in store.catalog.segments()}
    entries = list(store.catalog.below(None))
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target, overwrite=True) as temporary, h5py.File(temporary, "w") as file:
        features = file.create_dataset("features", (len(entries), store.spec.dimension), dtype=np.float32)
        file.create_dataset("paths", data=[entry.path for entry in entries], dtype=h5py.string_dtype())
        file.attrs["format"] = "imagesearch-export"
        file.attrs["format_version"] = 1
        file.attrs["model"] = store.spec.model_dump_json()
        for start in range(0, len(entries), _BLOCK_ROWS):
            block = entries[start : start + _BLOCK_ROWS]
            rows = [_feature(store, names[entry.segment_id], entry) for entry in block]
            features[start : start + len(block)] = np.array(rows, np.float32)
    return len(entries)


def _feature(store: FeatureStore, segment: str, entry: CatalogEntry) -> npt.NDArray[np.float16]:
    try:
        feature: npt.NDArray[np.float16] = store.segment(segment).features[entry.row]
    except FileNotFoundError:
        return store.feature(entry)  # compacted since the export began
    return feature
