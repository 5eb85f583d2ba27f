"""A viewer of the live events, as a browser's `EventSource` is one."""

from __future__ import annotations

import http.client
import json
from types import TracebackType
from typing import Any

PATH = "/api/v1/events"


class EventStream:
    """A connection that gets events until it is closed.

    Args:
        address: That of the web tier, such as `http://127.0.0.1:8000`.
        timeout: Seconds that it waits for the next bytes at most.

    Attributes:
        response: The answer: its status and headers.
    """

    def __init__(self, address: str, timeout: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=timeout)
        self._connection.request("GET", PATH, headers={"Accept": "text/event-stream"})
        self.response = self._connection.getresponse()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def next(self) -> tuple[str, Any] | None:
        """The name and the document of the next event; None at the end of the answer.

        Raises:
            TimeoutError: None came in time.
        """
        name, data = "message", ""
        while line := self.response.readline().decode():
            field, _, value = line.rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data += value
            elif line == "\n" and data:
                return name, json.loads(data)
        return None

    def wait_for(self, name: str) -> Any:
        """The document of the next event of this name.

        Raises:
            ConnectionError: The answer ended before one came.
        """
        while (event := self.next()) is not None:
            if event[0] == name:
                return event[1]
        raise ConnectionError(f"the answer ended without another event {name}")

    def close(self) -> None:
        """Ends the connection."""
        self.response.close()
        self._connection.close()
