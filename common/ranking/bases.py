"""The bases of a store: where they are published, and when a new one is due."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import StoreError
from common.files import locked
from common.ranking.basis import Basis
from common.ranking.checked import DamagedFile
from common.store import FeatureStore

logger = logging.getLogger(__name__)

# Two stages take 2 ms however few images there are; the exact comparison takes as long for 1,200 of them and 8 ms for
# 5,000 (measured on one core). Below that it is fast enough, and finds everything.
TWO_STAGES_FROM = 5_000
# A basis describes the collection that it was trained on; one so many times as large may be another.
OUTGROWN = 4
SAMPLE_ROWS = 20_000
_SUFFIX = ".basis"
# The one before the newest: other hosts serve with it until they have encoded everything anew.
_KEPT = 2


class BasisFolder:
    """The published bases of a store, in its folder `basis`. Derived: it may be deleted at any time.

    Args:
        store_path: The store's folder.
    """

    def __init__(self, store_path: Path) -> None:
        self.path = store_path / "basis"

    def ids(self) -> list[str]:
        """The ids of the published bases, the newest first."""
        return sorted((path.name.removesuffix(_SUFFIX) for path in self._files()), reverse=True)

    def load(self, basis_id: str) -> Basis | None:
        """A published basis; None if it is gone, or damaged: then it is reported and deleted."""
        path = self.path / f"{basis_id}{_SUFFIX}"
        try:
            return Basis.load(path)
        except FileNotFoundError:
            return None
        except DamagedFile as error:
            logger.warning("%s; another one is trained", error)
            path.unlink(missing_ok=True)
            return None

    def newest(self) -> Basis | None:
        """The newest basis that can be used."""
        loaded = (self.load(basis_id) for basis_id in self.ids())
        return next((basis for basis in loaded if basis is not None), None)

    def publish(self, basis: Basis) -> None:
        """Publishes a basis, and deletes those that are too old to be in use.

        Raises:
            OSError: It cannot be written.
        """
        basis.save(self.path / f"{basis.id}{_SUFFIX}")
        for old in self.ids()[_KEPT:]:
            (self.path / f"{old}{_SUFFIX}").unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [path for path in self.path.glob(f"*{_SUFFIX}") if not path.name.startswith(".")]


def is_outgrown(images: int, basis: Basis | None, *, two_stages_from: int = TWO_STAGES_FROM) -> bool:
    """Whether a collection of so many images needs a basis that it does not have."""
    return images >= two_stages_from and (basis is None or images >= OUTGROWN * basis.images)


def train_if_outgrown(store: FeatureStore, *, two_stages_from: int = TWO_STAGES_FROM) -> Basis | None:
    """Trains and publishes a basis if one is due. Any number of processes may call it; one of them does the work.

    Args:
        store: The store.
        two_stages_from: A smaller collection needs none.

    Returns:
        The new basis, if there is one.
    """
    folder = BasisFolder(store.path)
    folder.path.mkdir(exist_ok=True)
    with locked(folder.path / "lock"):
        store.refresh()
        images = len(store)
        if not is_outgrown(images, folder.newest(), two_stages_from=two_stages_from):
            return None
        basis = Basis.train(_sample(store, SAMPLE_ROWS), images=images)
        folder.publish(basis)
    logger.info("trained the basis %s of the candidates for %d images", basis.id, images)
    return basis


def _sample(store: FeatureStore, count: int) -> npt.NDArray[np.float16]:
    """Stored features at random, (at most `count`, d), live or not.

    Raises:
        StoreError: The store changes faster than it can be read.
    """
    for _ in range(3):
        try:
            return _read_sample(store, count)
        except FileNotFoundError:
            store.refresh()  # compacted away meanwhile
    raise StoreError("The feature store changes faster than it can be read: try again.")


def _read_sample(store: FeatureStore, count: int) -> npt.NDArray[np.float16]:
    segments = store.catalog.segments()
    ends = np.cumsum([segment.count for segment in segments])
    total = int(ends[-1])
    chosen = np.sort(np.random.default_rng(0).choice(total, min(count, total), replace=False))
    parts = []
    for segment, end in zip(segments, ends, strict=True):
        rows = chosen[(chosen >= end - segment.count) & (chosen < end)] - (end - segment.count)
        parts.append(store.segment(segment.name).features[rows])
    sample: npt.NDArray[np.float16] = np.concatenate(parts)
    return np.compress(np.isfinite(sample).all(axis=1), sample, axis=0)
