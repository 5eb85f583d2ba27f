"""Every answer is as the OpenAPI document says, whatever is sent; and what the document forbids is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest
from pydantic import SecretStr

from benchmarks.system import running_web
from common.settings import Settings
from tests.fuzz.world import TOKEN, something_of_everything
from tests.unit.helpers import REPOSITORY

HERE = Path(__file__).parent


@pytest.fixture
def known(settings: Settings, library: Path) -> Iterator[dict[str, str]]:
    """Something of everything."""
    with something_of_everything(settings, library) as names:
        yield names


def test_every_answer_is_in_the_document(settings: Settings, known: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "conformance.toml"
    config.write_text(
        Template((HERE / "conformance.toml").read_text(encoding="utf-8")).substitute(known), encoding="utf-8"
    )
    with running_web(settings.model_copy(update={"api_token": SecretStr(TOKEN)})) as address:
        command = ["--config-file", str(config), "run", f"{address}/api/v1/openapi.json"]
        hooks = {"SCHEMATHESIS_HOOKS": "tests.unit.web.conformance_hooks", "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *command],
            env={**os.environ, **known, **hooks},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
