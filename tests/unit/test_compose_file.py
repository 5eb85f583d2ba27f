"""The compose file and its `.env.example` know every setting, so that a new one cannot be forgotten there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
VARIABLES = [PREFIX + field.upper() for field in Settings.model_fields]
# What docker-compose.yml sets itself, because the paths are those inside the containers.
FIXED = {"IMAGESEARCH_DATA_DIR", "IMAGESEARCH_CACHE_DIR", "IMAGESEARCH_LIBRARY_ROOTS"}


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_compose_file_passes_every_setting(variable: str) -> None:
    line = re.search(rf"^  {variable}: (.*)$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert line, f"docker-compose.yml does not pass {variable}"
    assert variable in FIXED or line[1].startswith(f"${{{variable}:-")


def test_the_example_names_every_setting_with_its_default() -> None:
    examples = dict(re.findall(r"^#(IMAGESEARCH_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(examples) == set(VARIABLES) - FIXED
    # The two that compose sets otherwise than the program does.
    assert examples.pop("IMAGESEARCH_REDIS_URL") == "redis://redis:6379/0"
    assert examples.pop("IMAGESEARCH_WEIGHTS") == "imagenet"
    assert Settings.load(examples) == Settings()
