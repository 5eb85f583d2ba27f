"""What is done once for a model on a kind of processor: converting it to int8, and measuring the precisions.

It happens in a process of its own: it needs TensorFlow and a few gigabytes for a moment, and the worker that
runs int8 afterwards needs neither. The outcome lies in the data folder, beside the model's weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from common.errors import ConfigurationError, ModelError
from common.files import locked
from common.messages import Message
from common.models import ModelSpec
from common.settings import Settings
from common.weights import WeightsStatus
from workers.network.pictures import ENOUGH_PICTURES, count_pictures
from workers.network.processor import processor_flags, processor_name
from workers.network.trial import Trial

logger = logging.getLogger(__name__)

# To be raised when the conversion, or how a precision is chosen, changes.
RECIPE = 1
_PACKAGES = ("tensorflow-cpu", "tensorflow", "ai-edge-litert")


class Prepared(Message):
    """The outcome of a preparation."""

    spec: ModelSpec
    precision: str
    int8_file: str = ""
    """Relative to the data folder."""
    int8_bytes: int = 0
    pictures: int = 0
    """So many of the pictures it was tried on were of the library."""
    trials: tuple[Trial, ...] = ()

    def is_usable(self, data_dir: Path) -> bool:
        """Whether what it speaks of is there."""
        if self.precision != "int8":
            return True
        try:
            return (data_dir / self.int8_file).stat().st_size == self.int8_bytes
        except OSError:
            return False


class Request(Message):
    """What the preparing process is asked for."""

    settings: Settings
    weights: WeightsStatus
    threads: int
    target: Path


def prepare(
    settings: Settings, weights: WeightsStatus, threads: Callable[[], int], say: Callable[[str], None]
) -> Prepared:
    """What was found out about the model on this processor; found out now if it has not been.

    Workers that start together wait for the first one.

    Args:
        settings: `precision` is `auto` or `int8`.
        weights: The outcome of `common.weights.resolve_weights`.
        threads: Gives the threads for the networks, 0 for their own choice; asked if there is something to find out.
        say: Told before something that takes long.

    Raises:
        ConfigurationError: int8 was asked for, and this installation cannot run it.
        ModelError: The model cannot be loaded, or not be converted.
    """
    if settings.precision == "int8" and not find_spec("ai_edge_litert"):
        raise ConfigurationError(
            "IMAGESEARCH_PRECISION", "int8 needs the package ai-edge-litert, which is not installed; use float32"
        )
    target = record_path(settings, weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    before = _read(target, settings)
    if before is not None and _is_enough(before, settings):
        return before
    say("preparing the model for this processor, which is done once and takes a minute or more")
    with locked(target.with_suffix(".lock")):
        known = _read(target, settings)
        if known is None or known == before:  # else another worker has just made it
            _run(Request(settings=settings, weights=weights, threads=threads(), target=target))
            known = _read(target, settings)
    if known is None:
        raise ModelError(f"The preparation of {settings.model} left nothing usable at {target}.")
    return known


def record_path(settings: Settings, weights: WeightsStatus) -> Path:
    """Where the outcome is recorded. Another model, processor or version of the software gives another path."""
    facts = {
        "model": settings.model,
        "files": [_stamp(Path(path)) for path in (settings.model, weights.path) if path and Path(path).is_file()],
        "precision": settings.precision,
        "processor": [processor_name(), platform.machine(), sorted(processor_flags())],
        "versions": [_version(package) for package in _PACKAGES],
        "recipe": RECIPE,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return settings.data_dir / "models" / f"prepared-{digest}.json"


def _stamp(path: Path) -> list[object]:
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read(path: Path, settings: Settings) -> Prepared | None:
    try:
        known = Prepared.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return known if known.is_usable(settings.data_dir) else None


def _is_enough(known: Prepared, settings: Settings) -> bool:
    if settings.precision == "int8" or known.pictures >= ENOUGH_PICTURES:
        return True
    return count_pictures(settings.library_roots) < ENOUGH_PICTURES


def _run(request: Request) -> None:
    """Runs the preparation to its end.

    Raises:
        ModelError: It failed.
    """
    command = [sys.executable, "-m", "workers.network.prepare"]
    # The converter leaves half a gigabyte in the temporary folder, and a container's may be small.
    with TemporaryDirectory(prefix=".preparing-", dir=request.target.parent) as scratch:
        environment = {**os.environ, "TMPDIR": scratch}
        # Its log lines go where this process's go.
        process = subprocess.run(
            command, input=request.model_dump_json().encode(), stdout=subprocess.PIPE, env=environment, check=False
        )
    if process.returncode == 0:
        return
    reason = process.stdout.decode(errors="replace").strip() or _how_it_ended(process.returncode)
    draft = draft_path(request.target)
    if not draft.exists():
        raise ModelError(reason)
    logger.warning("int8 is left out: %s", reason)
    draft.replace(request.target)


def _how_it_ended(code: int) -> str:
    if code < 0:
        return (
            f"The preparation of the model was ended by signal {-code}. Converting VGG16 to int8 needs about 5 GB "
            "of memory for a moment: IMAGESEARCH_PRECISION=float32 or bfloat16 needs no conversion."
        )
    return f"The preparation of the model failed with exit code {code}."


def draft_path(target: Path) -> Path:
    """Where the outcome without int8 lies, for the case that the conversion is killed."""
    return target.with_suffix(".draft")
