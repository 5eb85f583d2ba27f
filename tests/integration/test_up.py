"""`imagesearch up` as people start it: real processes, a real model, real signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.up.run_record import RunRecord, is_running, read_record
from tests.pictures import photo

PICTURES = 12
READY = "Imagesearch is ready: "


class Machine:
    """A data folder and a library, on which `up` is started and stopped."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.data_dir = folder / "data"
        self.library = folder / "holiday"
        self.log = folder / "up.log"
        self._process: subprocess.Popen[bytes] | None = None
        # Nothing of the person who runs the tests: only what the defaults are, but for a small model.
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("IMAGESEARCH_")}
        self.env |= {"IMAGESEARCH_DATA_DIR": str(self.data_dir), "IMAGESEARCH_MODEL": str(model)}
        # To choose one takes most of a minute; tests/unit/network does it with a small model.
        self.env["IMAGESEARCH_PRECISION"] = "float32"

    def start(self, *arguments: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Starts `up` on a free port."""
        command = [sys.executable, "-m", "common.cli", "up", "--port", "0", *arguments]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, env=self.env, stdout=stdout or log, stderr=subprocess.STDOUT)
        return self._process

    def wait_for(self, text: str, seconds: float = 280) -> str:
        """Waits until `up` has printed the text. Returns the line."""

        def line() -> str | None:
            assert self._process is not None
            lines = self.log.read_text().splitlines()
            assert self._process.poll() is None, f"up ended:\n{self.log.read_text()}"
            return next((line for line in lines if text in line), None)

        return wait_until(line, f"{text!r} is printed", seconds)

    def cli(self, *arguments: str) -> Any:
        """Runs a command that finds the running `up` by itself. Returns its JSON document."""
        command = [sys.executable, "-m", "common.cli", *arguments, "--json"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def record(self) -> RunRecord:
        """The record of the running `up`."""
        record = read_record(self.data_dir)
        assert record is not None
        return record

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal to `up` alone. Returns its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(60)

    def clean_up(self) -> None:
        """Ends whatever a failed test has left."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)


def wait_until(condition: Callable[[], Any], what: str, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)
    return value


def alive_in_sessions(record: RunRecord) -> list[psutil.Process]:
    """The processes that still live of those that `up` started, and of those that these started."""
    sessions = {child.pid for child in record.children}
    alive = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return alive


@pytest.fixture(scope="module")
def machine(fast_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One machine for the tests below, which go on where the one before stopped."""
    machine = Machine(tmp_path_factory.mktemp("machine"), fast_model)
    machine.library.mkdir()
    for seed in range(PICTURES):
        photo(seed).save(machine.library / f"{seed:02}.jpg")
    yield machine
    machine.clean_up()


def test_a_first_start_serves_indexes_and_stops(machine: Machine) -> None:
    machine.start("--images", str(machine.library))
    url = machine.wait_for(READY).removeprefix(READY)
    with urllib.request.urlopen(f"{url}/healthz", timeout=10) as response:
        assert response.status == 200
    machine.wait_for(f"holiday: indexed, {PICTURES} pictures: {PICTURES} new")

    status = machine.cli("status")
    assert (status["images"], status["trained"], status["folders"]) == (PICTURES, True, ["holiday"])
    result = machine.cli("query", str(machine.library / "03.jpg"), "-k", "3")
    assert result["results"][0]["path"] == "holiday/03.jpg"
    assert result["results"][0]["score"] > 0.999

    second = subprocess.run(
        [sys.executable, "-m", "common.cli", "up"], env=machine.env, capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 1
    assert url in second.stderr

    record = machine.record()
    assert [child.name for child in record.children] == ["redis", "query", "bulk", "web"]
    assert len(alive_in_sessions(record)) >= 4
    assert machine.stop(signal.SIGTERM) == 0
    assert alive_in_sessions(record) == []
    assert not is_running(machine.data_dir)
    assert read_record(machine.data_dir) is None
    assert not Path(record.redis_url.removeprefix("unix://")).parent.exists()


def test_a_second_start_embeds_nothing_again_and_cleans_up_after_a_kill(machine: Machine) -> None:
    machine.start()
    machine.wait_for(READY)
    machine.wait_for(f"holiday: indexed, {PICTURES} pictures: 0 new, {PICTURES} unchanged.")
    killed = machine.record()
    machine.stop(signal.SIGKILL)
    assert alive_in_sessions(killed)

    # A picture came while nothing was watching: it is all that the next start embeds.
    photo(99).save(machine.library / "99.jpg")
    machine.start("--images", str(machine.library))
    machine.wait_for("Stopped what an earlier start had left running: redis, query, bulk, web")
    machine.wait_for(READY)
    machine.wait_for(f"holiday: indexed, {PICTURES + 1} pictures: 1 new, {PICTURES} unchanged.")
    assert alive_in_sessions(killed) == []
    assert machine.cli("status")["images"] == PICTURES + 1

    # One that dies is started again, and the address stays.
    record = machine.record()
    web = next(child for child in record.children if child.name == "web")
    os.kill(web.pid, signal.SIGKILL)
    machine.wait_for("The part `web` was ended by signal 9. It is started again")
    wait_until(lambda: _answers(record.address), "the web tier answers again", 60)
    record = machine.record()
    assert machine.stop(signal.SIGINT) == 0
    assert alive_in_sessions(record) == []


def test_a_part_that_cannot_start_is_named_with_its_log_and_all_is_stopped(machine: Machine) -> None:
    # Not a Redis file: the server refuses to start on it. Redis 7 keeps a folder of them, before it was one.
    redis = machine.data_dir / "redis"
    for path in (*redis.glob("appendonlydir/*.manifest"), *redis.glob("appendonly.aof")):
        path.write_text("nonsense\n")
    process = machine.start()
    assert process.wait(60) == 1
    output = machine.log.read_text()
    assert "The part `redis` failed to start" in output
    assert str(machine.data_dir / "logs" / "redis.log") in output
    assert "Traceback" not in output
    assert not is_running(machine.data_dir)


def test_on_a_terminal_an_early_ctrl_c_stops_everything(machine: Machine) -> None:
    machine.env["IMAGESEARCH_DATA_DIR"] = str(machine.data_dir.with_name("other"))
    machine.data_dir = machine.data_dir.with_name("other")
    terminal, side = pty.openpty()
    try:
        process = machine.start("--images", str(machine.library), stdout=side)
        wait_until(lambda: len((read_record(machine.data_dir) or _NONE).children) == 4, "all parts are started", 60)
        record = machine.record()
        assert machine.stop(signal.SIGINT) == 0
        assert process.returncode == 0
        assert alive_in_sessions(record) == []
        assert b"Stopped. The next start continues from here." in os.read(terminal, 65536)
    finally:
        os.close(side)
        os.close(terminal)


_NONE = RunRecord(
    pid=0, address="", redis_url="", library_roots=(), model="", weights="", precision="", booted=0, children=()
)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
