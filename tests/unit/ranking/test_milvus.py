"""What is special about Milvus: where it is, what it costs to be wrong about it, and what it is told."""

from __future__ import annotations

import builtins
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import ConfigurationError, VectorBackendUnavailable
from common.ranking.milvus import MilvusCandidates
from common.store import FeatureStore
from tests.unit.helpers import SPEC, Vector, make_store, publish, python_json, record, unit_vectors

pytest.importorskip("pymilvus", reason="the extra `milvus` is not installed")


class Half:
    """A projection that keeps the first four values."""

    dimension = 4

    def __init__(self, id: str = "00000000000000000042-abcdef12") -> None:
        self.id = id

    def project(self, features: Any) -> Vector:
        return np.ascontiguousarray(features[:, : self.dimension], np.float32)

    def query(self, query: Vector) -> Vector:
        return query[: self.dimension]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


@pytest.fixture
def uri(tmp_path: Path) -> Iterator[str]:
    """The path of a Milvus Lite file, in a folder that is not there yet."""
    from milvus_lite.server_manager import server_manager_instance

    path = str(tmp_path / "vectors" / "milvus.db")
    yield path
    server_manager_instance.release_server(path)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Milvus that is reached by URL, and its process."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", tmp_path / "server", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(port))
        yield f"http://user:secret@127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


def rows(index: MilvusCandidates, k: int = 100, **options: Any) -> dict[str, list[int]]:
    return {name: part.tolist() for name, part in index.search(unit_vectors(1)[0], k, **options).items()}


# --- where it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", [None, ""])
def test_without_a_uri_the_setting_is_named(uri: str | None) -> None:
    with pytest.raises(ConfigurationError, match="IMAGESEARCH_MILVUS_URI"):
        MilvusCandidates(uri, SPEC.fingerprint, Half())


@pytest.mark.parametrize("uri", ["milvus:19530", "/data/vectors", "ftp://user:secret@milvus/x.db"])
def test_what_is_no_uri_is_refused_without_its_password(uri: str) -> None:
    with pytest.raises(ConfigurationError, match=r"http://host:19530") as refused:
        MilvusCandidates(uri, SPEC.fingerprint, Half())
    assert "secret" not in str(refused.value)


def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(VectorBackendUnavailable, match="IMAGESEARCH_MILVUS_URI") as raised:
        MilvusCandidates("http://user:secret@127.0.0.1:9", SPEC.fingerprint, Half())
    assert raised.value.uri == "http://127.0.0.1:9"
    assert "secret" not in str(raised.value)


def test_a_missing_package_is_named_with_what_installs_it(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "pymilvus":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match=r'pip install "imagesearch\[milvus\]"'):
        MilvusCandidates(uri, SPEC.fingerprint, Half())


def test_the_client_is_not_imported_before_it_is_needed() -> None:
    code = "import json, sys\nimport common.ranking.milvus\nprint(json.dumps('pymilvus' in sys.modules))"
    assert python_json(code) is False


def test_a_file_that_another_process_has_open_is_an_error_that_says_so(uri: str) -> None:
    MilvusCandidates(uri, SPEC.fingerprint, Half()).close()
    code = (
        "import json, sys\nfrom common.errors import VectorBackendUnavailable\n"
        "from common.ranking.milvus import MilvusCandidates\nfrom tests.unit.ranking.test_milvus import Half\n"
        "try:\n    MilvusCandidates(sys.argv[1], sys.argv[2], Half())\n"
        "except VectorBackendUnavailable as error:\n    print(json.dumps(str(error)))\n"
    )
    assert "one process at a time" in python_json(code, uri, SPEC.fingerprint)


# --- a server ----------------------------------------------------------------------------------------------------


def test_a_server_is_filled_by_one_client_and_searched_by_another(
    server: tuple[str, subprocess.Popen[bytes]], store: FeatureStore
) -> None:
    url, _ = server
    publish(store, "s", [f"p/{'a' if row % 2 else 'b'}/{row}.jpg" for row in range(300)])
    filling, searching = (MilvusCandidates(url, SPEC.fingerprint, Half()) for _ in range(2))
    filling.add(store.segment("s"))
    filling.snapshot()
    assert searching.names() == {"s"}
    assert searching.count() == 300
    assert rows(searching, 1000) == {"s": list(range(300))}
    assert rows(searching, 1000, folder="p/a") == {"s": list(range(1, 300, 2))}
    filling.remove("s")
    assert searching.names() == set()
    assert rows(searching) == {}


def test_a_server_that_dies_is_an_error_and_not_a_wait_without_end(
    server: tuple[str, subprocess.Popen[bytes]], store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, process = server
    publish(store, "s", ["p/1.jpg"])
    index = MilvusCandidates(url, SPEC.fingerprint, Half())
    monkeypatch.setattr("common.ranking.milvus._SECONDS", 0.5)
    monkeypatch.setattr("common.ranking.milvus._SEARCH_SECONDS", 0.5)
    process.kill()
    process.wait()
    with pytest.raises(VectorBackendUnavailable):
        index.add(store.segment("s"))
    with pytest.raises(VectorBackendUnavailable):
        index.search(unit_vectors(1)[0], 5)
    with pytest.raises(VectorBackendUnavailable):
        index.names()


# --- what it holds -----------------------------------------------------------------------------------------------


def test_a_segment_that_was_cut_off_is_not_listed_and_is_completed(
    uri: str, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.ranking.milvus._BATCH_ROWS", 4)
    publish(store, "s", [f"p/{row}.jpg" for row in range(10)])
    index = MilvusCandidates(uri, SPEC.fingerprint, Half())
    project = index._basis.project
    calls = []

    def dies(features: Any) -> Vector:
        calls.append(len(features))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return project(features)

    monkeypatch.setattr(index._basis, "project", dies)
    with pytest.raises(KeyboardInterrupt):
        index.add(store.segment("s"))
    assert calls == [4, 4, 2]
    assert index.names() == set()
    assert index.count() == 0
    index.add(store.segment("s"))
    assert index.names() == {"s"}
    assert rows(index) == {"s": list(range(10))}


def test_stores_and_bases_do_not_mix(uri: str, store: FeatureStore) -> None:
    publish(store, "s", ["p/1.jpg", "p/2.jpg"])
    one = MilvusCandidates(uri, SPEC.fingerprint, Half())
    one.add(store.segment("s"))
    for other in (MilvusCandidates(uri, SPEC.fingerprint, Half("2-b")), MilvusCandidates(uri, "other", Half())):
        assert other.names() == set()
        assert rows(other) == {}
        other.add(store.segment("s"))
        other.discard()
    assert one.count() == 2
    assert rows(one) == {"s": [0, 1]}


def test_what_belongs_to_outdated_bases_is_discarded(uri: str, store: FeatureStore) -> None:
    publish(store, "s", ["p/1.jpg", "p/2.jpg"])
    old, before, newest = (MilvusCandidates(uri, SPEC.fingerprint, Half(f"{number}-x")) for number in range(3))
    other_store = MilvusCandidates(uri, "other", Half("0-x"))
    everywhere = [old, before, newest, other_store]
    for index in everywhere:
        index.add(store.segment("s"))
    newest.discard_bases_but(["1-x", "never-published"])
    assert [index.count() for index in everywhere[1:]] == [2, 2, 2]
    with pytest.raises(VectorBackendUnavailable):
        old.count()
    assert MilvusCandidates(uri, SPEC.fingerprint, Half("0-x")).count() == 0


def test_a_feature_that_is_no_number_does_not_keep_out_the_others(uri: str, store: FeatureStore) -> None:
    features = unit_vectors(3)
    features[1] = np.nan
    store.publish(
        "s",
        precision="float32",
        records=[record(f"p/{row}") for row in range(3)],
        features=features,
        thumbnails=[b""] * 3,
    )
    index = MilvusCandidates(uri, SPEC.fingerprint, Half())
    index.add(store.segment("s"))
    assert index.count() == 3
    assert {0, 2} <= set(rows(index)["s"])


def test_dropped_collections_start_anew(uri: str, store: FeatureStore) -> None:
    publish(store, "s", ["p/1.jpg", "p/2.jpg"])
    index = MilvusCandidates(uri, SPEC.fingerprint, Half())
    index.add(store.segment("s"))
    index.discard()
    again = MilvusCandidates(uri, SPEC.fingerprint, Half())
    assert again.names() == set()
    again.add(store.segment("s"))
    assert rows(again) == {"s": [0, 1]}


def test_more_segments_than_a_page_are_all_listed(
    uri: str, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.ranking.milvus._BATCH_ROWS", 3)
    index = MilvusCandidates(uri, SPEC.fingerprint, Half())
    names = {f"s{number}" for number in range(11)}
    for name in names:
        publish(store, name, [f"p/{name}.jpg"])
        index.add(store.segment(name))
    assert index.names() == names
    assert index.count() == 11


def test_the_most_rows_that_milvus_gives_are_not_exceeded(uri: str, store: FeatureStore) -> None:
    publish(store, "s", [f"p/{row}.jpg" for row in range(20)])
    index = MilvusCandidates(uri, SPEC.fingerprint, Half())
    index.add(store.segment("s"))
    assert rows(index, 10**6) == {"s": list(range(20))}
