"""The feature store: everything that is known of the indexed images, in sealed HDF5 segments.

This is the whole public interface; the modules below it are private. The format is in `docs/store-format.md`.
"""

from common.store.catalog_rows import CatalogEntry, image_id
from common.store.compaction import CompactionReport, compact
from common.store.export import export
from common.store.feature_store import FeatureStore, StoredContent
from common.store.opening import open_store
from common.store.replaced import KEEP_REPLACED_SECONDS, remove_replaced
from common.store.segment import ImageRecord, Segment, Tombstone

__all__ = [
    "KEEP_REPLACED_SECONDS",
    "CatalogEntry",
    "CompactionReport",
    "FeatureStore",
    "ImageRecord",
    "Segment",
    "StoredContent",
    "Tombstone",
    "compact",
    "export",
    "image_id",
    "open_store",
    "remove_replaced",
]
