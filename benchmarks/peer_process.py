"""A process that measures when it is asked to: one JSON object a line in, one out. Between requests it sleeps.

So it loads its model once, and measurements of several processes can take turns on one machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO


class PeerProcess:
    """The side that asks.

    Args:
        module: A module that calls `serve`.
        *arguments: Its arguments.
        env: Its environment.
    """

    def __init__(self, module: str, *arguments: str, env: dict[str, str]) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.greeting = self._read()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for the answer.

        Raises:
            RuntimeError: The process has ended; it said why on standard error.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def answers_only() -> TextIO:
    """Keeps standard output for the answers: what libraries print goes to standard error from now on."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return channel


def serve(channel: TextIO, greeting: dict[str, Any], answer: Callable[..., dict[str, Any]]) -> None:
    """The side that answers, until standard input ends.

    Args:
        channel: From `answers_only`.
        greeting: Sent at once.
        answer: Called with the fields of each request.
    """
    print(json.dumps(greeting), file=channel)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), file=channel)
