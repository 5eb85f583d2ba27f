"""What a model is to everybody who does not run it: its specification, fingerprint and store.

The workers resolve the `MODEL` and `WEIGHTS` settings (that may need a download) and publish the outcome as a
small JSON file in the data folder; the web tier and the command line read it, and so find the right store
without loading any model.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from pydantic import ValidationError

from common.files import write_atomically
from common.messages import Message
from common.settings import Settings


class ModelSpec(Message):
    """What decides the value of a feature. Two features may be compared only if their specs are equal."""

    architecture: str
    layer: str
    weights_sha256: str
    preprocessing: str
    dimension: int
    input_size: tuple[int, int]
    trained: bool

    @property
    def name(self) -> str:
        """What people call it, such as `vgg16/fc1`."""
        return f"{self.architecture}/{self.layer}"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the whole specification."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def store_path(self, data_dir: Path) -> Path:
        """The folder of this model's feature store."""
        label = re.sub(r"[^a-z0-9]+", "-", self.architecture.lower()).strip("-")
        return data_dir / "stores" / f"{label}-{self.fingerprint}"


def _record_path(settings: Settings) -> Path:
    key = hashlib.sha256(f"{settings.model}\n{settings.weights}".encode()).hexdigest()[:12]
    return settings.data_dir / "models" / f"resolved-{key}.json"


def publish_model(settings: Settings, spec: ModelSpec) -> None:
    """Records which model the settings resolved to. Called by a worker once it has loaded the model."""
    path = _record_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, spec.model_dump_json(indent=1).encode())


def resolved_model(settings: Settings) -> ModelSpec | None:
    """The model that the settings last resolved to on this data folder, or None before any worker has loaded it."""
    try:
        return ModelSpec.model_validate_json(_record_path(settings).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
