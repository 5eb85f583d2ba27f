from __future__ import annotations

from pathlib import Path

import pytest

from common.models import ModelSpec, publish_model, resolved_model
from common.settings import Settings
from tests.unit.helpers import OTHER_SPEC, SPEC


def test_a_fingerprint_never_changes() -> None:
    # It names the stores on people's disks: with another value they would be indexed again.
    assert SPEC.fingerprint == "12681d8d7eb2dcd1"


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "other"},
        {"layer": "fc2"},
        {"weights_sha256": "2" * 64},
        {"preprocessing": "other/1"},
        {"dimension": 16},
        {"input_size": (16, 17)},
        {"trained": False},
    ],
)
def test_everything_that_decides_a_feature_is_in_the_fingerprint(change: dict[str, object], tmp_path: Path) -> None:
    other = SPEC.model_copy(update=change)
    assert set(change) <= set(ModelSpec.model_fields)
    assert other.fingerprint != SPEC.fingerprint
    assert other.store_path(tmp_path) != SPEC.store_path(tmp_path)


def test_a_store_folder_is_named_after_its_model(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"architecture": "../My Model: ü/2"})
    assert spec.store_path(tmp_path).parent == tmp_path / "stores"
    assert spec.store_path(tmp_path).name == f"my-model-2-{spec.fingerprint}"
    assert SPEC.name == "fake/statistics"


def test_what_a_worker_resolved_is_found_by_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert resolved_model(settings) is None
    publish_model(settings, SPEC)
    assert resolved_model(settings) == SPEC
    publish_model(settings, OTHER_SPEC)
    assert resolved_model(settings) == OTHER_SPEC
    assert resolved_model(Settings(data_dir=tmp_path, weights="untrained")) is None
    assert resolved_model(Settings(data_dir=tmp_path, model="/m.keras")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"architecture": "vgg16"}'])
def test_a_record_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str) -> None:
    settings = Settings(data_dir=tmp_path)
    publish_model(settings, SPEC)
    (path,) = (tmp_path / "models").glob("resolved-*.json")
    path.write_text(text)
    assert resolved_model(settings) is None
