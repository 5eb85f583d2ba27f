"""Where the ImageNet weights of VGG16 come from. Needs no TensorFlow: the command line fetches them, too."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from common.errors import WeightsUnavailable
from common.files import atomic_path, locked, write_atomically
from common.messages import Message
from common.settings import Settings

logger = logging.getLogger(__name__)

# Keras's own file and its checksum, from keras.applications.vgg16.
FILE_NAME = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
URL = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{FILE_NAME}"
MD5 = "64373286793e3c8b2b4e3219cbf3544b"
CONNECT_TIMEOUT_SECONDS = 10
# Workers that start together must not come to different conclusions because the network flickered.
_REMEMBER_FAILURE_SECONDS = 120

Progress = Callable[[int, int], None]
"""Called with the bytes downloaded so far, and in all (0 if unknown)."""


class WeightsStatus(Message):
    """The outcome of looking for a model's weights."""

    model: str
    weights: str
    trained: bool
    path: str | None
    detail: str


def resolve_weights(settings: Settings, progress: Progress | None = None) -> WeightsStatus:
    """Finds the weights that the settings ask for, downloading them once where that is needed.

    Args:
        settings: `model` and `weights` decide.
        progress: Told about a download as it goes.

    Raises:
        WeightsUnavailable: They cannot be had; the message names the ways to provide them.
    """
    if settings.model != "vgg16":
        if not Path(settings.model).is_file():
            raise WeightsUnavailable(f"The model file {settings.model} does not exist (IMAGESEARCH_MODEL).")
        return _status(settings, Path(settings.model), "the model file carries its own weights")
    if settings.weights == "untrained":
        return _status(settings, None, "seeded, untrained weights: results match colour and texture only")
    if settings.weights == "imagenet":
        return _status(settings, _imagenet(settings, progress), "Keras's ImageNet weights, checksum verified")
    if settings.weights == "auto":
        return _auto(settings, progress)
    path = Path(settings.weights)
    if not path.is_file():
        raise WeightsUnavailable(
            f"The weights file {path} does not exist. IMAGESEARCH_WEIGHTS is auto, imagenet, untrained, "
            "or the path of a Keras .h5 file."
        )
    return _status(settings, path, "your own file")


def _status(settings: Settings, path: Path | None, detail: str) -> WeightsStatus:
    return WeightsStatus(
        model=settings.model,
        weights=settings.weights,
        trained=path is not None,
        path=str(path) if path else None,
        detail=detail,
    )


def _auto(settings: Settings, progress: Progress | None) -> WeightsStatus:
    try:
        return _status(settings, _imagenet(settings, progress), "Keras's ImageNet weights, checksum verified")
    except WeightsUnavailable as error:
        logger.warning("ImageNet weights cannot be had, falling back to untrained ones. %s", error)
        return _status(settings, None, f"untrained, because ImageNet weights cannot be had. {error}")


def _imagenet(settings: Settings, progress: Progress | None) -> Path:
    folder = settings.data_dir / "models"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "download.lock"):
        problems = []
        for path in _places(folder):
            if path.is_file():
                if _verified(path, folder):
                    return path
                problems.append(f"{path} is not Keras's file: its MD5 is not {MD5}")
        target = folder / FILE_NAME
        try:
            _check_recent_failure(folder)
            _download(target, progress)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            _remember_failure(folder, error)
            raise WeightsUnavailable(_three_ways(target, [*problems, f"the download failed ({error})"])) from error
        return target


def _places(folder: Path) -> list[Path]:
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    return [folder / FILE_NAME, keras_home / "models" / FILE_NAME]


def _three_ways(target: Path, problems: list[str]) -> str:
    return (
        f"The ImageNet weights of VGG16 are not available: {'; '.join(problems)}. Provide them in one of three ways: "
        f"(1) let this machine reach {URL} and run `imagesearch weights`; "
        f"(2) download that file elsewhere and put it at {target}; "
        "(3) set IMAGESEARCH_WEIGHTS to the path of any Keras .h5 file with VGG16 weights. "
        "To try the system without them, set IMAGESEARCH_WEIGHTS=untrained."
    )


def _download(target: Path, progress: Progress | None) -> None:
    request = urllib.request.Request(URL, headers={"User-Agent": "imagesearch"})
    digest = hashlib.md5(usedforsecurity=False)
    with (
        urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_SECONDS) as response,
        atomic_path(target, overwrite=True) as temporary,
        temporary.open("wb") as file,
    ):
        total, received = int(response.headers.get("Content-Length") or 0), 0
        while block := response.read(1 << 20):
            digest.update(block)
            file.write(block)
            received += len(block)
            if progress is not None:
                progress(received, total)
        if digest.hexdigest() != MD5:
            raise ValueError(f"what was downloaded has the MD5 {digest.hexdigest()}, not {MD5}")


def _verified(path: Path, folder: Path) -> bool:
    """Whether the file has Keras's checksum; remembered by size and time, since reading 528 MB takes seconds."""
    stat = path.stat()
    stamp = {"path": str(path.resolve()), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "md5": MD5}
    memo = folder / f"{FILE_NAME}.verified.json"
    try:
        if json.loads(memo.read_bytes()) == stamp:
            return True
    except (OSError, ValueError):
        pass  # not verified before
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != MD5:
        return False
    write_atomically(memo, json.dumps(stamp).encode())
    return True


def _failure_path(folder: Path) -> Path:
    return folder / "download-failed.txt"


def _check_recent_failure(folder: Path) -> None:
    path = _failure_path(folder)
    if path.is_file() and time.time() - path.stat().st_mtime < _REMEMBER_FAILURE_SECONDS:
        raise OSError(path.read_text(encoding="utf-8"))


def _remember_failure(folder: Path, error: Exception) -> None:
    path = _failure_path(folder)
    if not path.is_file() or time.time() - path.stat().st_mtime >= _REMEMBER_FAILURE_SECONDS:
        write_atomically(path, str(error).encode())
