"""Changes what workers in other processes do: a slower model, a model that only sleeps, less patience, files that kill.

The change travels as JSON in the variable `INJECT`. Python runs `injected/sitecustomize.py` when it starts; that
calls `apply`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "injected"


@contextmanager
def injected(
    *,
    slow: float | None = None,
    stub: float | None = None,
    lease: float | None = None,
    drain: float | None = None,
    poison: str | None = None,
    trap: str | None = None,
) -> Iterator[None]:
    """What is started inside the block is changed; what is not given here is as in the block around it.

    Args:
        slow: Seconds that the real model sleeps for each picture, beside its work.
        stub: Seconds that a model without TensorFlow sleeps for each picture; it replaces the real one.
        lease: After so many seconds without a sign of a worker, another one gets its work.
        drain: A bulk worker that is told to stop goes on for at most so many seconds.
        poison: A file with this text in its name kills the process that reads it.
        trap: A picture whose file ends with this text and a colon and one of the `TRAPS` springs that trap on the
            process that decodes it.
    """
    before = {name: os.environ.get(name) for name in ("INJECT", "PYTHONPATH")}
    given = {"slow": slow, "stub": stub, "lease": lease, "drain": drain, "poison": poison, "trap": trap}
    around = json.loads(os.environ.get("INJECT", "{}"))
    os.environ["INJECT"] = json.dumps(around | {name: value for name, value in given.items() if value is not None})
    project = str(_FOLDER.parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_FOLDER), project, before["PYTHONPATH"]]))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def apply(text: str) -> None:
    """Makes the changes in this process."""
    wanted = json.loads(text)
    if "workers.decoders.child" in sys.orig_argv:
        if "trap" in wanted:
            _set_traps(wanted["trap"])
        return
    changes: dict[str, Callable[[Any], None]] = {
        "slow": _slow_down,
        "stub": _stub,
        "lease": _shorten_leases,
        "drain": _shorten_stops,
        "poison": _poison,
    }
    for name in wanted.keys() & changes.keys():
        changes[name](wanted[name])


def _slow_down(seconds: float) -> None:
    from workers.network.batched import BatchedExtractor

    extract = BatchedExtractor.extract

    def slow(self: Any, pixels: Any) -> Any:
        time.sleep(seconds * len(pixels))
        return extract(self, pixels)

    BatchedExtractor.extract = slow  # type: ignore[method-assign]


def _stub(seconds: float) -> None:
    from workers import extractor

    extractor.load_extractor = lambda settings, weights, **_: StubExtractor(seconds)  # type: ignore[assignment]


def _shorten_leases(seconds: float) -> None:
    from common.worklist import WorkList

    WorkList.__init__.__defaults__ = (seconds,)  # type: ignore[misc]


def _shorten_stops(seconds: float) -> None:
    from workers import drain

    drain.OTHER_SECONDS = seconds


def _poison(text: str) -> None:
    from workers.decoding import FileReader

    read = FileReader._read

    def deadly(self: FileReader, public_path: str) -> Any:
        if text in public_path:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, public_path)

    FileReader._read = deadly  # type: ignore[method-assign]


# --- traps for decoder processes -----------------------------------------------------------------------------


def _spin() -> None:
    while True:
        pass


def _allocate() -> None:
    held = []
    while True:
        held.append(bytearray(2**24))


def _fail() -> None:
    raise ZeroDivisionError("a fault of ours")


TRAPS: dict[str, Callable[[], object]] = {
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "spin": _spin,
    "allocate": _allocate,
    "fail": _fail,
    "babble": lambda: os.write(4, b"nonsense" * 1000),
    "exit": lambda: os._exit(3),
}


def _set_traps(text: str) -> None:
    from common.images import ImageDecoder

    open_, loaded = ImageDecoder._open, ImageDecoder._loaded
    found = ""

    def opening(self: ImageDecoder, data: bytes) -> Any:
        nonlocal found
        _, _, found = data[-100:].decode("latin-1").rpartition(f"{text}:")
        return open_(self, data)

    def springing(self: ImageDecoder, image: Any) -> Any:
        if found in TRAPS:
            TRAPS[found]()
        return loaded(self, image)

    ImageDecoder._open, ImageDecoder._loaded = opening, springing  # type: ignore[method-assign]


class StubExtractor:
    """A model that sleeps instead of computing: its features have eight numbers and follow from the pixels.

    Args:
        seconds: How long it sleeps for each picture.
    """

    def __init__(self, seconds: float) -> None:
        from common.models import ModelSpec

        self.seconds = seconds
        self.precision = "float32"
        self.full_batch = 16
        self.images_per_second = 1 / seconds if seconds else 2000.0
        self.spec = ModelSpec(
            architecture="stub",
            layer="none",
            weights_sha256="0" * 64,
            preprocessing="none",
            dimension=8,
            input_size=(16, 16),
            trained=True,
        )

    def extract(self, pixels: Any) -> Any:
        """Sleeps; then gives a feature of length 1 for each picture."""
        import numpy as np

        time.sleep(self.seconds * len(pixels))
        digests = [hashlib.sha256(picture.tobytes()).digest()[:8] for picture in pixels]
        features = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 8).astype(np.float32) + 1
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    def estimated_seconds(self, number: int) -> float:
        """See `workers.extractor.FeatureExtractor.estimated_seconds`."""
        return number / self.images_per_second

    def warm_up_next(self) -> bool:
        """See `workers.extractor.FeatureExtractor.warm_up_next`."""
        return False
