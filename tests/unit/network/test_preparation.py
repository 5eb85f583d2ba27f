"""Converting and choosing, once for a model and a processor, with the real converter and the real runtimes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from common.errors import ModelError
from common.settings import LibraryRoot, Settings
from common.weights import WeightsStatus, resolve_weights
from tests.pictures import photo
from workers.extractor import FeatureExtractor, load_extractor
from workers.network import loading, preparation
from workers.network.loading import load_network
from workers.network.pictures import ENOUGH_PICTURES, count_pictures, trial_pictures
from workers.network.preparation import Prepared, draft_path, prepare, record_path


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with enough pictures, to be copied."""
    folder = tmp_path_factory.mktemp("painted") / "photos"
    folder.mkdir()
    for number in range(ENOUGH_PICTURES + 2):
        photo(number, (96, 72)).save(folder / f"{number}.jpg")
    return folder


@pytest.fixture
def settings(settings: Settings, fast_model: Path, painted: Path) -> Settings:
    """The small model, on a library with enough pictures, in int8."""
    shutil.copytree(painted, settings.library_roots[0].path, dirs_exist_ok=True)
    return settings.model_copy(update={"model": str(fast_model), "precision": "int8"})


@pytest.fixture(scope="module")
def converted(fast_model: Path, painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Prepares the model in a precision, once, and gives the folder that it left."""

    @cache
    def folder(precision: str) -> Path:
        data_dir = tmp_path_factory.mktemp(precision)
        settings = Settings(
            data_dir=data_dir,
            library_roots=(LibraryRoot(name="photos", path=painted),),
            model=str(fast_model),
            precision=precision,  # type: ignore[arg-type]
            threads=1,
        )
        prepare(settings, weights(settings), lambda: 1, lambda text: None)
        return data_dir / "models"

    return folder


@pytest.fixture
def prepared(settings: Settings, converted: Callable[[str], Path]) -> Settings:
    """The same settings on a data folder in which the model is prepared already."""
    shutil.copytree(converted("int8"), settings.data_dir / "models")
    return settings


@pytest.fixture
def chosen(settings: Settings, converted: Callable[[str], Path]) -> Settings:
    """The same in the precision `auto`, where the fastest has been chosen already."""
    shutil.copytree(converted("auto"), settings.data_dir / "models")
    return with_precision(settings, "auto")


def weights(settings: Settings) -> WeightsStatus:
    return resolve_weights(settings)


def load(settings: Settings) -> FeatureExtractor:
    return load_extractor(settings, weights(settings), threads=lambda: 1)


def pixels(number: int, settings: Settings) -> np.ndarray:
    return trial_pictures(settings, (64, 64))[0][:number]


def with_precision(settings: Settings, precision: str) -> Settings:
    return settings.model_copy(update={"precision": precision})


def test_int8_features_are_close_to_those_of_float32(prepared: Settings) -> None:
    rounded, exact = load(prepared), load(with_precision(prepared, "float32"))
    assert (rounded.precision, exact.precision) == ("int8", "float32")
    assert rounded.spec == exact.spec
    some = pixels(19, prepared)
    cosines = (rounded.extract(some) * exact.extract(some)).sum(axis=1)
    assert cosines.min() >= 0.99
    assert cosines.min() < 1.0


def test_a_feature_in_int8_does_not_depend_on_its_batch(prepared: Settings) -> None:
    extractor = load(prepared)
    some = pixels(11, prepared)
    alone = np.concatenate([extractor.extract(some[row : row + 1]) for row in range(11)])
    np.testing.assert_allclose(extractor.extract(some), alone, atol=1e-5)


def test_a_prepared_model_runs_without_tensorflow(prepared: Settings) -> None:
    code = (
        "import sys\n"
        "from workers.extractor import load_extractor\n"
        "from workers.network.preparation import Request\n"
        "request = Request.model_validate_json(sys.stdin.read())\n"
        "extractor = load_extractor(request.settings, request.weights, threads=lambda: 1)\n"
        "print(extractor.precision, 'tensorflow' in sys.modules, 'keras' in sys.modules)\n"
    )
    request = preparation.Request(settings=prepared, weights=weights(prepared), threads=1, target=Path("none"))
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, input=request.model_dump_json(), capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["int8", "False", "False"]


def test_workers_that_start_together_prepare_once(settings: Settings) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(lambda _: prepare(settings, weights(settings), lambda: 1, said.append), range(3)))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert said
    files = {path.suffix for path in (settings.data_dir / "models").iterdir()}
    assert files == {".json", ".lock", ".tflite"}
    said.clear()
    prepare(settings, weights(settings), lambda: 1, said.append)
    assert said == []


def test_auto_measures_and_remembers(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    target = record_path(chosen, weights(chosen))
    assert not draft_path(target).exists()
    # Nothing is measured twice.
    monkeypatch.setattr(preparation, "_run", lambda request: pytest.fail("prepared twice"))
    outcome = prepare(chosen, weights(chosen), lambda: 1, lambda text: None)
    assert outcome == Prepared.model_validate_json(target.read_text())
    assert {trial.precision for trial in outcome.trials} >= {"float32"}
    assert outcome.pictures >= ENOUGH_PICTURES
    fastest = max((t for t in outcome.trials if t.is_faithful), key=lambda t: t.images_per_second)
    assert outcome.precision == fastest.precision
    assert load(chosen).precision == fastest.precision


def test_a_choice_made_on_too_few_pictures_is_made_again_once_there_are_more(chosen: Settings) -> None:
    target = record_path(chosen, weights(chosen))
    known = prepare(chosen, weights(chosen), lambda: 1, lambda text: None).model_copy(update={"pictures": 3})
    target.write_text(known.model_dump_json())
    assert prepare(chosen, weights(chosen), lambda: 1, lambda text: None).pictures >= ENOUGH_PICTURES

    target.write_text(known.model_dump_json())
    for path in chosen.library_roots[0].path.iterdir():
        path.unlink()
    assert count_pictures(chosen.library_roots) == 0
    assert prepare(chosen, weights(chosen), lambda: 1, lambda text: None) == known


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(b"\0" * path.stat().st_size), Path.unlink], ids=["damaged", "gone"]
)
def test_a_damaged_file_is_made_anew(prepared: Settings, damage: Callable[[Path], object]) -> None:
    path = prepared.data_dir / prepare(prepared, weights(prepared), lambda: 1, lambda text: None).int8_file
    damage(path)
    assert load(prepared).precision == "int8"
    assert path.stat().st_size > 0


def test_other_weights_or_another_precision_are_prepared_on_their_own(settings: Settings, tmp_path: Path) -> None:
    here = record_path(settings, weights(settings))
    assert record_path(with_precision(settings, "auto"), weights(settings)) != here
    copy = tmp_path / "copy.keras"
    copy.write_bytes(Path(settings.model).read_bytes())
    other = settings.model_copy(update={"model": str(copy)})
    assert record_path(other, weights(other)) != here
    before = record_path(other, weights(other))
    copy.write_bytes(copy.read_bytes() + b" ")
    assert record_path(other, weights(other)) != before


def test_a_conversion_that_is_killed_leaves_the_other_precisions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    auto = with_precision(settings, "auto")
    target = record_path(auto, weights(auto))

    def killed(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        spec = load(with_precision(settings, "float32")).spec
        draft_path(target).write_text(Prepared(spec=spec, precision="float32", pictures=32).model_dump_json())
        return subprocess.CompletedProcess(command, -9, b"", b"")

    monkeypatch.setattr(preparation.subprocess, "run", killed)
    assert load(auto).precision == "float32"
    assert "signal 9" in caplog.text


def test_without_a_draft_the_reason_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, -9, b"", b"")

    monkeypatch.setattr(preparation.subprocess, "run", killed)
    with pytest.raises(ModelError, match=r"signal 9.*float32"):
        load(settings)


def test_a_model_that_cannot_be_loaded_is_told_through_the_preparation(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "broken.keras"
    path.write_bytes(b"no model")
    broken = settings.model_copy(update={"model": str(path)})
    with pytest.raises(ModelError, match=r"broken\.keras cannot be loaded"):
        load(broken)


def test_float32_needs_no_preparation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "prepare", lambda *_: pytest.fail("prepared"))
    exact = with_precision(settings, "float32")
    assert load_network(exact, weights(exact), lambda: 1, lambda text: None)[2] == "float32"


def test_trial_pictures_come_from_the_library_and_are_filled_up(settings: Settings) -> None:
    (settings.library_roots[0].path / "broken.jpg").write_bytes(b"not a picture")
    found, real = trial_pictures(settings, (48, 64))
    assert found.shape == (32, 48, 64, 3)
    assert found.dtype == np.uint8
    assert real == ENOUGH_PICTURES + 2
    assert len({picture.tobytes() for picture in found}) == 32
