from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from common.celery_app import MAINTENANCE, TRAIN_CANDIDATES, make_celery
from common.ranking.bases import TWO_STAGES_FROM, BasisFolder
from common.settings import Settings
from tests.unit.ranking.building import made_features, open_store, put
from workers import tasks


def test_the_maintenance_queue_trains_a_basis_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_celery(Settings()).conf.task_routes[TRAIN_CANDIDATES] == {"queue": MAINTENANCE}
    assert tasks.train_candidates.name == TRAIN_CANDIDATES
    store = open_store(tmp_path)
    monkeypatch.setattr(tasks, "runtime", lambda: SimpleNamespace(store=store))
    tasks.train_candidates()
    assert BasisFolder(store.path).ids() == []
    put(store, "s", [f"p/{row}" for row in range(TWO_STAGES_FROM)], made_features(TWO_STAGES_FROM))
    for _ in range(2):
        tasks.train_candidates()
    basis = BasisFolder(store.path).newest()
    assert basis is not None
    assert basis.images == TWO_STAGES_FROM
    assert BasisFolder(store.path).ids() == [basis.id]
