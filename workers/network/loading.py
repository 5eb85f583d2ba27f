"""From the settings to a network: at once if a preparation has been recorded, else after making one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from common.errors import ModelError
from common.models import ModelSpec
from common.settings import Settings
from common.weights import WeightsStatus
from workers.network.batched import Network
from workers.network.preparation import Prepared, prepare

logger = logging.getLogger(__name__)


def load_network(
    settings: Settings, weights: WeightsStatus, threads: Callable[[], int], say: Callable[[str], None]
) -> tuple[Network, ModelSpec, str]:
    """Loads the model that the settings name.

    Args:
        settings: `model` and `precision` decide.
        weights: The outcome of `common.weights.resolve_weights`.
        threads: Gives the threads for a pass, 0 for the runtime's own choice; asked late, when that is imported.
        say: Told what takes long, if something does.

    Returns:
        The network, what its features are, and the precision.

    Raises:
        ModelError: The file cannot be loaded, or does not fit.
        ConfigurationError: The precision is not available.
    """
    if settings.precision in {"float32", "bfloat16"}:
        return _keras(settings, weights, settings.precision, threads)
    prepared = prepare(settings, weights, threads, say)
    if prepared.precision != "int8":
        return _keras(settings, weights, prepared.precision, threads)
    try:
        return _litert(settings, prepared, threads)
    except ModelError as error:
        logger.warning("%s: it is made anew", error)
        Path(settings.data_dir / prepared.int8_file).unlink(missing_ok=True)
        return _litert(settings, prepare(settings, weights, threads, say), threads)


def _keras(
    settings: Settings, weights: WeightsStatus, precision: str, threads: Callable[[], int]
) -> tuple[Network, ModelSpec, str]:
    from workers.network.keras_models import load_model
    from workers.network.keras_network import KerasNetwork, set_threads

    set_threads(threads)
    model, spec = load_model(settings.model, weights, precision)
    return KerasNetwork(model, spec), spec, precision


def _litert(settings: Settings, prepared: Prepared, threads: Callable[[], int]) -> tuple[Network, ModelSpec, str]:
    from workers.network.litert_network import LiteRtNetwork

    return LiteRtNetwork(settings.data_dir / prepared.int8_file, threads()), prepared.spec, "int8"
