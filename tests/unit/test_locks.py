"""The lock files: what they pin is complete, hashed, and the same everywhere."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted(
    path.relative_to(ROOT).as_posix() for path in [ROOT / "requirements.txt", *ROOT.glob("requirements/*.txt")]
)
# What each lock was made of: extras, and groups of `[dependency-groups]`.
SOURCES = {
    "requirements.txt": ["web", "worker", "up"],
    "requirements/web.txt": ["web"],
    "requirements/worker.txt": ["worker"],
    "requirements/worker-gpu.txt": ["worker-gpu"],
    "requirements/monitoring.txt": ["monitoring"],
    "requirements/dev.txt": ["web", "worker", "up", "milvus", "monitoring", "dev"],
}


def entries(lock: str) -> list[str]:
    """Each requirement of a lock with its hashes, on one line."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pinned(lock: str) -> list[Requirement]:
    """The requirements of a lock."""
    return [Requirement(entry.partition(" --hash=")[0]) for entry in entries(lock)]


def here(lock: str) -> dict[str, Requirement]:
    """What a lock installs on this system, by name."""
    chosen = [one for one in pinned(lock) if one.marker is None or one.marker.evaluate()]
    assert len({canonicalize_name(one.name) for one in chosen}) == len(chosen), f"{lock} pins a package twice"
    return {canonicalize_name(one.name): one for one in chosen}


def needs(name: str, extras: set[str]) -> list[Requirement]:
    """What an installed distribution needs here, with these of its extras."""
    requirements = [Requirement(text) for text in metadata.requires(name) or []]
    return [
        one
        for one in requirements
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in {"", *extras})
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_with_hashes(lock: str) -> None:
    assert entries(lock)
    for entry in entries(lock):
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ ", entry), entry
        assert re.search(r" --hash=sha256:[0-9a-f]{64}", entry), entry
        assert "://" not in entry, "a lock must not name where packages come from"


@pytest.mark.parametrize("lock", LOCKS)
def test_what_a_locked_package_needs_is_locked_with_its_extras(lock: str) -> None:
    """Without its extra, pip would resolve `pydantic[email]` anew, and refuse it because that has no hash."""
    locked = here(lock)
    looked_at = 0
    for name, requirement in locked.items():
        try:
            if metadata.version(name) != str(requirement.specifier).removeprefix("=="):
                continue
        except metadata.PackageNotFoundError:
            continue  # a package of another system or lock
        looked_at += 1
        for need in needs(name, requirement.extras):
            found = locked.get(canonicalize_name(need.name))
            assert found, f"{lock}: {name} needs {need}, which is not locked"
            assert need.extras <= found.extras, f"{lock}: {name} needs {need}, and the lock has only {found}"
    assert looked_at


@pytest.mark.parametrize("lock", SOURCES)
def test_a_lock_has_what_the_project_asks_for(lock: str) -> None:
    # The project's own metadata may be that of another checkout, so the file is read.
    for text in asked_for(SOURCES[lock]):
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate():
            continue
        found = here(lock).get(canonicalize_name(need.name))
        assert found, f"{need} is not in {lock}: make lock"
        assert need.extras <= found.extras
        assert need.specifier.contains(str(found.specifier).removeprefix("==")), f"{found} is not {need}: make lock"


@pytest.mark.parametrize("lock", sorted(set(LOCKS) - {"requirements/dev.txt"}))
def test_tests_run_with_the_versions_that_are_shipped(lock: str) -> None:
    tested = here("requirements/dev.txt")
    for name, requirement in here(lock).items():
        if name in tested:
            assert requirement.specifier == tested[name].specifier


def asked_for(sources: list[str]) -> list[str]:
    """The requirements that pyproject.toml names under these extras and groups."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = []
    for name in ["dependencies", *sources]:
        block = re.search(rf"^{re.escape(name)} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
        assert block, f"pyproject.toml has no {name}"
        found += re.findall(r'"([^"\n]+)"', re.sub(r"\s# .*", "", block[1]))
    return found
