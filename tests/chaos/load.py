"""Searches at a steady rate over HTTP, each with a known best match, and a record of what became of each."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.http_load import upload_body
from common.store import image_id

CLIENTS = 32
# Searches that are due and that no client is free for are put off by so much, and then left out.
LONGEST_DELAY = 2.0
_ANSWER_SECONDS = 90.0
# A client that is asked to come back does so for this long.
_PATIENCE_SECONDS = 10.0
_BOUNDARY_TYPE = "multipart/form-data; boundary=imagesearch-benchmark"


class SearchFailed(Exception):
    """A search was not answered, or not with the picture itself."""


@dataclass(frozen=True)
class Query:
    """What is sent, and the SHA-256 of the file that must come first."""

    body: bytes
    type: str
    expected: str


@dataclass(frozen=True)
class Outcome:
    """One search: when it began and ended (`time.monotonic()`), and what went wrong."""

    began: float
    ended: float
    error: str | None = None
    moved: int = 0
    """How often its client went to the next address, because the one before had no answer at all."""
    put_off: int = 0
    """How often the server asked its client to come back, and it did."""


def by_upload(photo: Path) -> Query:
    """A search with the file."""
    return Query(upload_body(photo, "image", k=5), _BOUNDARY_TYPE, sha256(photo.read_bytes()).hexdigest())


def by_id(photo: Path, public_path: str) -> Query:
    """A search with the indexed image."""
    body = json.dumps({"image_id": image_id(public_path), "k": 5}).encode()
    return Query(body, "application/json", sha256(photo.read_bytes()).hexdigest())


class SearchClient:
    """Searches as a page does, through a proxy in front of several web processes.

    A connection that is refused, or that ends before a byte of an answer has come, sends the request to the next
    address. An answer counts, whatever it says; but with `Retry-After` the client comes back, as it is asked to, for
    some seconds.

    Args:
        addresses: Those of the web processes.
        first: Which one it begins with.
    """

    def __init__(self, addresses: Sequence[str], first: int = 0) -> None:
        self._addresses = [urlsplit(address).netloc for address in addresses]
        self._at = first % len(addresses)
        self._connection: http.client.HTTPConnection | None = None
        self.moved = self.put_off = 0

    def search(self, query: Query) -> None:
        """Searches and checks the answer.

        Raises:
            SearchFailed: It is not what was expected.
        """
        deadline = time.monotonic() + _ANSWER_SECONDS
        url = self._send("POST", "/api/v1/searches", 202, query)["url"]
        result: dict[str, Any] = {"state": "queued"}
        while result["state"] in {"queued", "running"}:
            if time.monotonic() > deadline:
                raise SearchFailed(f"{url} is {result['state']} after {_ANSWER_SECONDS} s")
            result = self._send("GET", f"{url}?wait=20", 200)
        if result["state"] != "done":
            raise SearchFailed(str(result["error"]))
        hits = result["results"]
        if not hits or hits[0]["content_hash"] != query.expected:
            raise SearchFailed(f"{url} gave {hits[0]['path'] if hits else 'nothing'} instead of the picture itself")

    def _send(self, method: str, path: str, expected: int, query: Query | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            status, retry_after, content = self._answer(method, path, query)
            if status == expected:
                answer: dict[str, Any] = json.loads(content)
                return answer
            if retry_after is None or time.monotonic() + float(retry_after) > deadline:
                raise SearchFailed(f"{method} {path}: {status} {content[:300]!r}")
            self.put_off += 1
            time.sleep(float(retry_after))

    def _answer(self, method: str, path: str, query: Query | None) -> tuple[int, str | None, bytes]:
        """The status, when to come back, and the content."""
        for attempt in itertools.count(1):
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._addresses[self._at], timeout=_ANSWER_SECONDS)
            try:
                body, headers = (query.body, {"Content-Type": query.type}) if query else (None, {})
                self._connection.request(method, path, body, headers)
                with self._connection.getresponse() as response:
                    return response.status, response.headers["Retry-After"], response.read()
            except (ConnectionError, http.client.BadStatusLine) as error:
                self.close()
                self._at = (self._at + 1) % len(self._addresses)
                self.moved += 1
                if attempt > 2 * len(self._addresses):
                    raise SearchFailed(f"{method} {path}: no web process answers: {error!r}") from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise SearchFailed(f"{method} {path}: {error!r}") from error
        raise AssertionError("the attempts have no end of their own")

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Load:
    """Searches from many clients until it is stopped.

    Args:
        addresses: Those of the web processes.
        queries: What is sent, in turns.
        rate: Searches a second; None: each client sends its next search as soon as it has its answer.
        clients: How many.
    """

    def __init__(
        self, addresses: Sequence[str], queries: Sequence[Query], rate: float | None, clients: int = CLIENTS
    ) -> None:
        self._addresses, self._queries, self._rate = addresses, queries, rate
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._began = time.monotonic()
        self.outcomes: list[Outcome] = []
        self.left_out = 0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Outcome]:
        """Sends no more, waits for what is under way, and gives all outcomes."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.outcomes

    def _run(self, first: int) -> None:
        client = SearchClient(self._addresses, first)
        while not self._stop.is_set():
            number = next(self._numbers)
            if self._rate is not None:
                due = self._began + number / self._rate
                if time.monotonic() - due > LONGEST_DELAY:
                    self.left_out += 1
                    continue
                if self._stop.wait(due - time.monotonic()):
                    break
            began, moved, put_off, error = time.monotonic(), client.moved, client.put_off, None
            try:
                client.search(self._queries[number % len(self._queries)])
            except SearchFailed as failure:
                error = str(failure)
            counts = client.moved - moved, client.put_off - put_off
            self.outcomes.append(Outcome(began, time.monotonic(), error, *counts))
        client.close()


def capacity(addresses: Sequence[str], queries: Sequence[Query], seconds: float, clients: int = 8) -> float:
    """Searches a second that clients get answered that always have one under way.

    Raises:
        SearchFailed: One of them failed.
    """
    load = Load(addresses, queries, None, clients)
    time.sleep(seconds)
    outcomes = load.stop()
    if failed := [outcome.error for outcome in outcomes if outcome.error]:
        raise SearchFailed(f"{len(failed)} searches failed undisturbed: {failed[0]}")
    return len(outcomes) / seconds
