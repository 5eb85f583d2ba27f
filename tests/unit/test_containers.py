"""What docker-compose.yml, its profiles and the Dockerfile promise; `tests/compose/run` tries it for real."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "IMAGESEARCH_REDIS_URL" in service.get("environment", {})]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_as_few_rights_as_it_can_do_with(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "healthcheck" in service])
def test_a_health_check_needs_no_shell(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("kind", ["query", "bulk"])
def test_a_worker_on_a_gpu_is_the_same_worker_in_another_image(kind: str) -> None:
    plain, gpu = dict(SERVICES[kind]), dict(SERVICES[f"{kind}-gpu"])
    assert gpu.pop("profiles") == ["gpu"]
    (device,) = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert (gpu.pop("image"), gpu.pop("build")["target"]) == ("imagesearch-worker-gpu", "worker-gpu")
    for name in ("image", "build", "scale"):
        del plain[name]
    assert gpu == plain


def test_every_program_can_have_its_secrets_from_files() -> None:
    services = yaml.safe_load((ROOT / "deploy/secrets.yml").read_text())["services"]
    assert set(OURS) <= set(services)
    for name in OURS:
        variables = services[name]["environment"]
        for secret in ("IMAGESEARCH_REDIS_URL", "IMAGESEARCH_API_TOKEN"):
            assert variables[secret] == "", "a variable that is set wins over its file"
            assert Path(variables[f"{secret}_FILE"]).name in services[name]["secrets"]


def test_the_proxy_gets_what_its_file_reads() -> None:
    variables = re.findall(r"\{\$(\w+)", (ROOT / "deploy/caddy/Caddyfile").read_text())
    assert set(variables) == set(SERVICES["tls"]["environment"])


def test_images_hold_nothing_of_the_base_image_and_do_not_run_as_root() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    bases = {name: base for base, name in stages}
    assert len(stages) == len(re.findall(r"^FROM", DOCKERFILE, re.MULTILINE))
    for target in ("web", "worker", "worker-gpu"):
        assert bases[target] == "runtime"
    assert bases["runtime"] == "scratch"
    runtime = DOCKERFILE.partition("FROM scratch AS runtime")[2].partition("\nFROM ")[0]
    assert re.search(r"^USER 10001:10001$", runtime, re.MULTILINE)


def test_packages_are_installed_by_hash_only() -> None:
    assert "--require-hashes" in (ROOT / "deploy/image/install").read_text()
    assert "pip" not in re.sub(r"^#.*$", "", DOCKERFILE, flags=re.MULTILINE)


def test_what_the_dockerfile_copies_is_sent_to_the_builder() -> None:
    sent = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for source in re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE):
        assert any(source == name or source.startswith(f"{name}/") for name in sent), source
        assert (ROOT / source).exists()
