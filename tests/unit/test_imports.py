"""Imports point one way, `web -> common <- workers`, and what forks never touches TensorFlow or HDF5."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.unit.helpers import REPOSITORY, python_json

HEAVY = ["tensorflow", "keras", "h5py", "faiss", "pymilvus"]
LOADED = "import json, sys\nimport {module}\nprint(json.dumps([name for name in {names} if name in sys.modules]))"


def modules(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports anywhere, also inside functions."""
    return packages_of(path, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported_at_once(path: Path) -> set[str]:
    """The top-level packages that a module imports as soon as it is imported itself."""
    return packages_of(path, ast.parse(path.read_text(encoding="utf-8")).body)


def packages_of(path: Path, nodes: Iterable[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("common", {"web", "workers", "tests", "tensorflow", "keras", "flask", "apiflask"}),
        ("web", {"workers", "tests", "tensorflow", "keras", "faiss"}),
        ("workers", {"web", "tests", "flask", "apiflask"}),
    ],
)
def test_imports_point_one_way(package: str, forbidden: set[str]) -> None:
    paths = modules(package)
    assert len(paths) > 5
    found = {str(path.relative_to(REPOSITORY)): imported(path) & forbidden for path in paths}
    assert {path: names for path, names in found.items() if names} == {}


def test_only_the_networks_import_a_runtime() -> None:
    runtimes = {"tensorflow", "keras", "ai_edge_litert"}
    users = [path for path in modules("workers") if imported(path) & runtimes]
    assert {path.parent.name for path in users} == {"network"}


@pytest.mark.parametrize("package", ["common", "workers"])
def test_runtimes_and_indexes_are_imported_only_where_they_are_used(package: str) -> None:
    late = {"tensorflow", "keras", "ai_edge_litert", "faiss", "pymilvus"}
    paths = modules(package)
    assert paths
    assert [path.name for path in paths if imported_at_once(path) & late] == []


@pytest.mark.parametrize("module", ["workers.app", "workers.tasks", "workers.runtime", "common.cli", "web"])
def test_a_process_that_forks_loads_nothing_heavy(module: str) -> None:
    assert python_json(LOADED.format(module=module, names=HEAVY)) == []


@pytest.mark.parametrize("module", ["workers.searching", "workers.indexing", "workers.extractor"])
def test_the_model_is_imported_only_when_it_is_loaded(module: str) -> None:
    assert python_json(LOADED.format(module=module, names=["tensorflow", "keras"])) == []
