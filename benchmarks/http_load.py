"""A light HTTP client for searches: prebuilt requests, connections that are kept, threads for many at once."""

from __future__ import annotations

import http.client
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from benchmarks.measuring import percentile

_BOUNDARY = "imagesearch-benchmark"
_TYPE = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
_TIMEOUT_SECONDS = 120


class SearchFailed(Exception):
    """A search was not answered with results."""


@dataclass(frozen=True)
class Answer:
    """How long a search took, and what the server says of its stages in milliseconds."""

    seconds: float
    took_ms: dict[str, float] = field(default_factory=dict)


class SearchClient(Protocol):
    """Searches through one connection."""

    def search(self, body: bytes) -> Answer:
        """Sends a body of `upload_body` and waits for the parsed results.

        Raises:
            SearchFailed: There are none.
        """
        ...


class ProductClient:
    """Searches as the product's pages do: an upload, then a request that waits for the results."""

    def __init__(self, address: str) -> None:
        self._connection = _connect(address)

    def search(self, body: bytes) -> Answer:
        """See `SearchClient.search`."""
        began = time.perf_counter()
        url = json.loads(_send(self._connection, "POST", "/api/v1/searches", 202, body))["url"]
        while True:
            result = json.loads(_send(self._connection, "GET", f"{url}?wait=30", 200))
            if result["state"] not in {"queued", "running"}:
                break
        seconds = time.perf_counter() - began
        if result["state"] != "done" or not result["results"]:
            raise SearchFailed(str(result["error"]))
        return Answer(seconds, result["took_ms"])


class OldPageClient:
    """Searches on the old page: one request."""

    def __init__(self, address: str) -> None:
        self._connection = _connect(address)

    def search(self, body: bytes) -> Answer:
        """See `SearchClient.search`."""
        began = time.perf_counter()
        page = _send(self._connection, "POST", "/", 200, body)
        seconds = time.perf_counter() - began
        if b"<figure>" not in page:
            raise SearchFailed("a page without results")
        return Answer(seconds)


def upload_body(photo: Path, field_name: str, **fields: object) -> bytes:
    """A multipart body with one picture, and other fields before it."""
    parts = "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field_name}"; filename="{photo.name}"\r\n'
    head += "Content-Type: image/jpeg\r\n\r\n"
    return f"{parts}{head}".encode() + photo.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()


def one_after_another(
    client: SearchClient, bodies: Sequence[bytes], queries: int, *, least_seconds: float = 0.0
) -> dict[str, Any]:
    """Searches one at a time, so often and at least so long, and sums up."""
    busy = _BusyTime()
    answers: list[Answer] = []
    end = time.perf_counter() + least_seconds
    while len(answers) < queries or time.perf_counter() < end:
        answers.append(client.search(bodies[len(answers) % len(bodies)]))
    return summary(answers) | {"client_busy_cores": busy.cores()}


def many_at_once(
    connect: Callable[[], SearchClient], bodies: Sequence[bytes], clients: int, seconds: float, warm_up: float = 3.0
) -> dict[str, Any]:
    """Several clients, each with its next search as soon as the last one is answered.

    Args:
        connect: Makes a client.
        bodies: What they send, in turns.
        clients: How many.
        seconds: How long answers are counted.
        warm_up: How long they are not, before that.
    """
    begin = time.perf_counter() + warm_up
    end = begin + seconds

    def keep_searching(number: int) -> tuple[list[Answer], int]:
        client, answers, failures = connect(), [], 0
        while time.perf_counter() < end:
            try:
                answer = client.search(bodies[number % len(bodies)])
                if begin <= time.perf_counter() < end:
                    answers.append(answer)
            except (SearchFailed, http.client.HTTPException, OSError):
                failures += 1
                client = connect()
            number += clients
        return answers, failures

    busy = _BusyTime()
    with ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(keep_searching, range(clients)))
    answers = [answer for part, _ in parts for answer in part]
    figures = summary(answers) if answers else {"queries": 0}
    return figures | {
        "clients": clients,
        "images_per_second": round(len(answers) / seconds, 2),
        "failures": sum(failures for _, failures in parts),
        "client_busy_cores": busy.cores(),
    }


def summary(answers: Sequence[Answer]) -> dict[str, Any]:
    """Percentiles of the whole, and the mean of each stage that the server reports; milliseconds."""
    times = [answer.seconds * 1000 for answer in answers]
    names = dict.fromkeys(name for answer in answers for name in answer.took_ms)
    stages = {name: [answer.took_ms.get(name, 0.0) for answer in answers] for name in names}
    figures: dict[str, Any] = {"queries": len(answers)}
    figures |= {f"p{percent}_ms": round(percentile(times, percent), 2) for percent in (50, 95, 99)}
    figures |= {"mean_ms": round(statistics.mean(times), 2), "highest_ms": round(max(times), 2)}
    if stages:
        figures["stages_mean_ms"] = {name: round(statistics.mean(values), 2) for name, values in stages.items()}
        figures["stages_p50_ms"] = {name: round(percentile(values, 50), 2) for name, values in stages.items()}
        # Of each search, not of each stage: medians cannot be added.
        waiting = [answer.took_ms.get("queue", 0.0) + answer.took_ms.get("poll", 0.0) for answer in answers]
        figures["queue_and_poll_p50_ms"] = round(percentile(waiting, 50), 2)
        beside = [answer.seconds * 1000 - answer.took_ms.get("total", 0.0) for answer in answers]
        figures["outside_total_p50_ms"] = round(percentile(beside, 50), 2)
    return figures


class _BusyTime:
    """The processor time that this process takes: the load generator shares the machine with what it measures."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), self._now()

    def cores(self) -> float:
        return round((self._now() - self._used) / (time.perf_counter() - self._began), 3)

    @staticmethod
    def _now() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime


def _connect(address: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(address).netloc, timeout=_TIMEOUT_SECONDS)


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, expected: int, body: bytes | None = None
) -> bytes:
    connection.request(method, path, body, _TYPE if body else {})
    with connection.getresponse() as response:
        content = response.read()
    if response.status != expected:
        raise SearchFailed(f"{method} {path}: {response.status} {content[:300]!r}")
    return content
