"""Finds the store that the settings mean."""

from __future__ import annotations

from common.errors import ModelNotReady
from common.models import ModelSpec, resolved_model
from common.settings import Settings
from common.store.feature_store import FeatureStore


def open_store(settings: Settings, spec: ModelSpec | None = None) -> FeatureStore:
    """Opens the store of a model; without `spec`, of the model that the workers resolved the settings to.

    Raises:
        ModelNotReady: No worker has loaded the model on this data folder yet.
    """
    spec = spec or resolved_model(settings)
    if spec is None:
        raise ModelNotReady
    return FeatureStore(spec.store_path(settings.data_dir), spec, settings.local_cache_dir)
