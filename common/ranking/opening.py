"""Opens the ranker that the settings mean. FAISS and Milvus are imported here and below, when they are needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from common.ranking.bases import TWO_STAGES_FROM, BasisFolder
from common.ranking.basis import Basis
from common.ranking.keeping import IndexKeeper
from common.ranking.protocol import CandidateIndex
from common.ranking.two_stage import Observer, TwoStageRanker
from common.settings import Settings
from common.store import FeatureStore

# What was saved is read in a second a million. Not more: until it is there, searches are exact, only slower.
_READY_SECONDS = 5.0


def open_ranker(
    settings: Settings,
    store: FeatureStore,
    threads: int,
    *,
    request_training: Callable[[], object] = lambda: None,
    observer: Observer | None = None,
    two_stages_from: int = TWO_STAGES_FROM,
) -> TwoStageRanker:
    """A ranker that keeps its candidate index up to date in the background, until the process ends.

    Args:
        settings: They choose what finds the candidates.
        store: What is searched.
        threads: How many threads compare features.
        request_training: Asks for `train_if_outgrown` in another process.
        observer: Is told of queries and their answers.
        two_stages_from: A collection of fewer images is ranked exactly.

    Raises:
        ConfigurationError: The chosen back end cannot be used.
        VectorBackendUnavailable: It cannot be reached.
    """
    ranker = TwoStageRanker(store, threads=threads, two_stages_from=two_stages_from, observer=observer)
    make = _Milvus if settings.vector_backend == "milvus" else _Faiss
    keeper = IndexKeeper(
        ranker, make(settings, store), request_training=request_training, two_stages_from=two_stages_from
    )
    keeper.start(_READY_SECONDS)
    return ranker


class _Faiss:
    """Opens indexes in memory, whose codes are saved in a folder of this host."""

    def __init__(self, settings: Settings, store: FeatureStore) -> None:
        self._folder = store.cache_path / "candidates"
        known = BasisFolder(store.path).ids()
        for path in self._folder.glob("*"):
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    def open(self, basis: Basis) -> CandidateIndex:
        from common.ranking.candidates import FaissCandidates

        return FaissCandidates(basis, self._folder / basis.id)

    def retire(self, basis: Basis) -> None:
        shutil.rmtree(self._folder / basis.id, ignore_errors=True)

    def saved(self, basis_id: str) -> int:
        return sum(path.stat().st_size for path in (self._folder / basis_id).glob("*.codes"))


class _Milvus:
    """Opens collections of a Milvus, which all hosts share."""

    def __init__(self, settings: Settings, store: FeatureStore) -> None:
        self._uri, self._fingerprint = settings.milvus_uri, store.spec.fingerprint

    def open(self, basis: Basis) -> CandidateIndex:
        from common.ranking.milvus import MilvusCandidates

        return MilvusCandidates(self._uri, self._fingerprint, basis)

    def retire(self, basis: Basis) -> None:
        """Nothing is dropped: other hosts may still search the collection."""

    def saved(self, basis_id: str) -> int:
        return 0
