from __future__ import annotations

import gc
import hashlib
import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common import weights
from common.errors import WeightsUnavailable
from common.settings import Settings
from common.weights import FILE_NAME, resolve_weights
from tests.unit.helpers import python_json

CONTENT = b"weights" * 100_000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
THREE_WAYS = r"\(1\) let this machine reach .*\(2\) download that file elsewhere.*\(3\) set IMAGESEARCH_WEIGHTS to"


class Host:
    """A web server that answers every request in one way, and counts them."""

    def __init__(self) -> None:
        self.requests = 0
        self.status, self.content, self.announced = 200, CONTENT, len(CONTENT)
        self.url = ""


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{FILE_NAME}"
        server.shutdown()
        thread.join()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Takes the place of Keras's own server."""
    state = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests += 1
            self.send_response(state.status)
            self.send_header("Content-Length", str(state.announced))
            self.end_headers()
            self.wfile.write(state.content)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as state.url:
        monkeypatch.setattr(weights, "URL", state.url)
        monkeypatch.setattr(weights, "MD5", MD5)
        yield state


@pytest.fixture(autouse=True)
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Keras folder of the test's own: nobody's real weights are found or touched."""
    folder = tmp_path / "keras"
    (folder / "models").mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(folder))
    return folder


Make = Callable[..., Settings]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes settings with a data folder of the test's own."""
    return lambda **changes: Settings(data_dir=tmp_path / "data", **changes)


# --- without a download ------------------------------------------------------------------------------------------


def test_untrained_weights_need_nothing(make: Make, host: Host) -> None:
    status = resolve_weights(make(weights="untrained"))
    assert (status.trained, status.path, status.weights) == (False, None, "untrained")
    assert "colour and texture only" in status.detail
    assert host.requests == 0


def test_a_file_of_your_own_is_used_as_it_is(make: Make, tmp_path: Path) -> None:
    (tmp_path / "own.h5").write_bytes(b"anything")
    status = resolve_weights(make(weights=str(tmp_path / "own.h5")))
    assert (status.trained, status.path) == (True, str(tmp_path / "own.h5"))


@pytest.mark.parametrize("name", ["missing.h5", "."])
def test_a_missing_file_is_named_with_the_choices(make: Make, tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsUnavailable, match=r"does not exist\. IMAGESEARCH_WEIGHTS is auto, imagenet, untrained"):
        resolve_weights(make(weights=str(tmp_path / name)))


def test_a_model_file_carries_its_own_weights(make: Make, tmp_path: Path, host: Host) -> None:
    (tmp_path / "m.keras").write_bytes(b"model")
    assert resolve_weights(make(model=str(tmp_path / "m.keras"), weights="imagenet")).trained
    with pytest.raises(WeightsUnavailable, match="IMAGESEARCH_MODEL"):
        resolve_weights(make(model=str(tmp_path / "missing.keras")))
    assert host.requests == 0


@pytest.mark.parametrize("place", ["data", "keras"])
def test_weights_that_are_there_are_not_downloaded(make: Make, host: Host, keras_home: Path, place: str) -> None:
    settings = make(weights="imagenet")
    folder = settings.data_dir / "models" if place == "data" else keras_home / "models"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(CONTENT)
    assert resolve_weights(settings).path == str(folder / FILE_NAME)
    assert host.requests == 0


# --- the download ------------------------------------------------------------------------------------------------


def test_the_download_is_verified_stored_once_and_reported(make: Make, host: Host) -> None:
    settings = make(weights="imagenet")
    seen: list[tuple[int, int]] = []
    status = resolve_weights(settings, lambda received, total: seen.append((received, total)))
    target = settings.data_dir / "models" / FILE_NAME
    assert (status.trained, status.path) == (True, str(target))
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert resolve_weights(settings).path == str(target)
    assert host.requests == 1
    assert list(target.parent.glob(".*.tmp")) == []


PROCESS = """
import json, sys
from pathlib import Path
from common import weights
from common.settings import Settings
weights.URL, weights.MD5 = sys.argv[2:4]
print(json.dumps(weights.resolve_weights(Settings(data_dir=Path(sys.argv[1]), weights="imagenet")).path))
"""


def test_processes_that_start_together_download_once(make: Make, host: Host) -> None:
    settings = make(weights="imagenet")
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(python_json(PROCESS, settings.data_dir, host.url, MD5)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [str(settings.data_dir / "models" / FILE_NAME)] * 3
    assert host.requests == 1


def test_a_stored_file_that_was_replaced_is_verified_again(make: Make, host: Host) -> None:
    settings = make(weights="imagenet")
    path = Path(resolve_weights(settings).path or "")
    path.write_bytes(b"something else")
    assert Path(resolve_weights(settings).path or "").read_bytes() == CONTENT
    assert host.requests == 2


def not_found(host: Host) -> None:
    host.status = 404


def wrong_content(host: Host) -> None:
    host.content = CONTENT[::-1]


def login_page(host: Host) -> None:
    host.content = b"<html>please log in</html>"
    host.announced = len(host.content)


def cut_off(host: Host) -> None:
    host.content = CONTENT[:1000]


@pytest.mark.parametrize("trouble", [not_found, wrong_content, login_page, cut_off])
def test_a_download_that_fails_names_the_three_ways(make: Make, host: Host, trouble: Callable[[Host], None]) -> None:
    trouble(host)
    settings = make(weights="imagenet")
    with pytest.raises(WeightsUnavailable, match=THREE_WAYS) as caught:
        resolve_weights(settings)
    assert host.url in str(caught.value)
    assert str(settings.data_dir / "models" / FILE_NAME) in str(caught.value)
    assert not (settings.data_dir / "models" / FILE_NAME).exists()
    assert list((settings.data_dir / "models").glob(".*.tmp")) == []


def test_a_closed_port_names_the_three_ways(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "URL", "http://127.0.0.1:9/weights.h5")
    with pytest.raises(WeightsUnavailable, match=THREE_WAYS):
        resolve_weights(make(weights="imagenet"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # http.client leaves its own socket open
def test_an_answer_that_is_no_http_names_the_three_ways(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nonsense(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"220 mail.example.org ready\r\n\r\n")

    with serving(Nonsense) as url:
        monkeypatch.setattr(weights, "URL", url)
        with pytest.raises(WeightsUnavailable, match=THREE_WAYS):
            resolve_weights(make(weights="imagenet"))
    gc.collect()


def test_a_wrong_file_in_place_is_named(make: Make, host: Host) -> None:
    not_found(host)
    settings = make(weights="imagenet")
    path = settings.data_dir / "models" / FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another version")
    with pytest.raises(WeightsUnavailable, match=f"{path} is not Keras's file"):
        resolve_weights(settings)
    assert path.read_bytes() == b"another version"


def test_workers_that_start_together_come_to_the_same_conclusion(make: Make, host: Host) -> None:
    not_found(host)
    settings = make(weights="auto")
    assert not resolve_weights(settings).trained
    host.status = 200
    assert not resolve_weights(settings).trained
    assert host.requests == 1
    failure = settings.data_dir / "models" / "download-failed.txt"
    before = time.time() - 200
    os.utime(failure, (before, before))
    assert resolve_weights(settings).trained
    assert host.requests == 2


def test_auto_takes_imagenet_where_it_can_be_had(make: Make, host: Host) -> None:
    status = resolve_weights(make(weights="auto"))
    assert status.trained
    assert host.requests == 1


def test_auto_falls_back_to_untrained_and_says_why(make: Make, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    not_found(host)
    status = resolve_weights(make(weights="auto"))
    assert (status.trained, status.path) == (False, None)
    assert "untrained, because ImageNet weights cannot be had" in status.detail
    assert "404" in status.detail
    assert "falling back to untrained" in caplog.text
