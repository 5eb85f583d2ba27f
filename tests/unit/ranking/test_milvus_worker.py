"""A worker whose candidates are in Milvus: filled from the store in the background, and followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.ranking import ExactRanker
from common.ranking.bases import BasisFolder, train_if_outgrown
from common.ranking.keeping import IndexKeeper
from common.ranking.opening import open_ranker
from common.settings import Settings
from tests.unit.ranking.building import answers, made_features, open_store, put
from tests.unit.ranking.test_keeping import SWITCH, wait_until

pytest.importorskip("pymilvus", reason="the extra `milvus` is not installed")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    from milvus_lite.server_manager import server_manager_instance

    uri = str(tmp_path / "milvus.db")
    yield Settings(vector_backend="milvus", milvus_uri=uri)
    server_manager_instance.release_server(uri)


@pytest.fixture
def keepers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[IndexKeeper]]:
    """The keepers that were started; stopped at the end, before their server."""
    started: list[IndexKeeper] = []
    start = IndexKeeper.start
    monkeypatch.setattr(IndexKeeper, "start", lambda self, *args: started.append(self) or start(self, *args))
    yield started
    for keeper in started:
        keeper.stop()


def test_a_worker_fills_milvus_from_its_store_and_follows_it(
    tmp_path: Path, settings: Settings, keepers: list[IndexKeeper]
) -> None:
    queries = made_features(10, seed=99)
    store = open_store(tmp_path)
    put(store, "a", [f"p/{row}" for row in range(SWITCH)], made_features(SWITCH))
    train_if_outgrown(store, two_stages_from=SWITCH)
    ranker = open_ranker(settings, store, 1, two_stages_from=SWITCH)
    wait_until(lambda: ranker.index_names == {"a"})
    put(store, "b", [f"q/{row}" for row in range(50)], made_features(50, seed=4))
    wait_until(lambda: ranker.index_names == {"a", "b"})
    exact = ExactRanker(store)
    assert answers(ranker, queries, 5) == answers(exact, queries, 5)
    assert answers(ranker, queries, 5, folder="q") == answers(exact, queries, 5, folder="q")
    # No codes on this host: what finds the candidates is in Milvus alone.
    assert not list(store.cache_path.glob("candidates/*"))

    # Another host finds it filled.
    again = open_ranker(settings, open_store(tmp_path, "other"), 1, two_stages_from=SWITCH)
    wait_until(lambda: again.index_names == {"a", "b"})
    assert answers(again, queries, 5) == answers(exact, queries, 5)
    assert len(BasisFolder(store.path).ids()) == 1
