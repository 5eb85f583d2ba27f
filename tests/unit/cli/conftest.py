"""Fixtures of the command line's tests: its environment, what it reads, and a terminal to print on."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from common.cli.app import run
from common.jobs import Client
from common.models import publish_model
from common.progress import JobBoard
from common.settings import Settings, format_roots
from common.store import FeatureStore, ImageRecord, open_store
from tests.pictures import photo
from tests.unit.cli.players import SPEC
from tests.unit.helpers import REPOSITORY, encoded

# What terminals, and programs around them, say of themselves.
_TERMINAL_VARIABLES = (
    *("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TERM", "TERM_PROGRAM", "LC_TERMINAL"),
    *("KITTY_WINDOW_ID", "TMUX", "STY", "COLUMNS", "LINES"),
)


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line sees the settings of the test, and no terminal but the test's."""
    values = {
        "REDIS_URL": settings.redis_url,
        "DATA_DIR": str(settings.data_dir),
        "LIBRARY_ROOTS": format_roots(settings.library_roots),
        "WEIGHTS": settings.weights,
    }
    for name, value in values.items():
        monkeypatch.setenv(f"IMAGESEARCH_{name}", value)
    for name in _TERMINAL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")  # whoever runs the tests may have any terminal


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    client = Client(settings)
    with client.redis:
        yield client


@pytest.fixture
def board(client: Client) -> JobBoard:
    return JobBoard(client.redis)


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    """A store with one image, as a worker would have left it."""
    publish_model(settings, SPEC)
    store = open_store(settings)
    record = ImageRecord("photos", "a b.jpg", 1_234_567, 1, b"\0" * 32, 8, 8, store.next_sequence())
    thumbnail = encoded(photo(1), "JPEG", quality=90)
    store.publish("one", precision="float32", records=[record], features=np.eye(1, 4), thumbnails=[thumbnail])
    return store


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "query.jpg"
    photo(1).save(path)
    return path


class Terminal:
    """A terminal that remembers everything that is printed on it."""

    def __init__(self, columns: int) -> None:
        self._reader, writer = os.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.stream = os.fdopen(writer, "w", encoding="utf-8")
        self._received = bytearray()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts the command line as a process of its own, for which this is the terminal that sends Ctrl-C."""
        code = "import fcntl, sys, termios\nfcntl.ioctl(0, termios.TIOCSCTTY)\n"
        code += "from common.cli import main\nmain(sys.argv[1:])"
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.Popen(
            command, cwd=REPOSITORY, start_new_session=True, stdin=self.stream, stdout=self.stream, stderr=self.stream
        )

    def type(self, keys: bytes) -> None:
        """Presses keys."""
        os.write(self._reader, keys)

    def run(self, *arguments: str) -> int:
        """Runs the command line with this terminal as its standard output and error."""
        # Only now: pytest puts its own streams back before each test.
        with redirect_stdout(self.stream), redirect_stderr(self.stream):
            return run(arguments)

    def so_far(self) -> str:
        """What was printed until now."""
        return self._received.decode(errors="replace").replace("\r\n", "\n")

    def text(self) -> str:
        """What was printed. Nothing can be printed any more then."""
        self.stream.close()
        self._thread.join(30)
        return self.so_far()

    def close(self) -> None:
        self.stream.close()
        self._thread.join(30)
        os.close(self._reader)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._reader, 65536)
            except OSError:  # Linux says so when the last writer is gone
                return
            if not data:
                return
            self._received += data


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A colour terminal."""
    terminal = Terminal(100)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("COLUMNS", "100")  # rich asks the streams that pytest has taken
    yield terminal
    terminal.close()
