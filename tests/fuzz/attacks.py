"""Requests that somebody with bad intentions sends by hand, and what each is answered.

`python -m tests.fuzz.requests` sends them beside those that Schemathesis makes up; `tests/unit/web/test_attacks.py`
sends them once.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

CLOSED = 0
"""Stands for a connection that is closed without an answer."""
PATIENCE_SECONDS = 60

REFUSED = frozenset({400, 404, 405, 413, 414, 415, 422, 431})
_NOT_FOUND = frozenset({404})
_TRAVERSALS = (
    "../secret/canary.txt",
    "photos/../../secret/canary.txt",
    "photos/../../secret",
    "../" * 12 + "etc/passwd",
    "/etc/passwd",
    "/proc/self/environ",
    "//etc/passwd",
    "....//....//etc/passwd",
    "..\\..\\etc\\passwd",
    "photos/way-out",
    "photos/way-out/canary.txt",
    "photos/\0/../../etc/passwd",
    "file:///etc/passwd",
    "%2e%2e%2fsecret%2fcanary.txt",
    "..;/secret",
    "C:\\Windows\\win.ini",
    "~root",
    "photos/" + "a/" * 5000,
    "a" * 7000,
)
# Where a part of the address is an id or a path.
_PLACES = (
    *(f"api/v1/images/{{}}{rest}" for rest in ("", "/original", "/thumbnail")),
    *(f"api/v1/searches/{{}}{rest}" for rest in ("", "/pictures/0")),
    *(f"api/v1/index-jobs/{{}}{rest}" for rest in ("", "/errors")),
    *("api/v1/duplicate-jobs/{}", "browse/{}", "static/{}", "search/{}"),
)
_PICTURE = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


@dataclass(frozen=True)
class Attack:
    """A request.

    Attributes:
        name: What it tries.
        data: The bytes that are sent.
        statuses: What it may be answered with.
    """

    name: str
    data: bytes
    statuses: frozenset[int]


@dataclass(frozen=True)
class Answer:
    """What came back: the status, `CLOSED` for nothing; all bytes; and after how many seconds."""

    status: int
    data: bytes
    seconds: float


@dataclass(frozen=True)
class Targets:
    """What is there to attack.

    Attributes:
        root: The address of the server, as host and port.
        token: What changes need.
        image: The id of an indexed image.
        swapped: Ids of images whose files or folders were replaced by links out of the library since.
    """

    root: tuple[str, int]
    token: str
    image: str
    swapped: tuple[str, ...]


def request(method: str, target: str, body: bytes = b"", *, length: int | None = None, **headers: str) -> bytes:
    """A request as it goes over the wire; nothing of it is made correct."""
    lines = [f"{method} {target} HTTP/1.1", "Host: attack.test", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def send(root: tuple[str, int], data: bytes) -> Answer:
    """Sends bytes, and reads all that comes back.

    Raises:
        TimeoutError: The server does not end.
    """
    began = time.monotonic()
    received = b""
    with socket.create_connection(root, PATIENCE_SECONDS) as client:
        with suppress(ConnectionError):  # the server need not read all of it
            client.sendall(data)
        with suppress(ConnectionError):
            while chunk := client.recv(1 << 16):
                received += chunk
                if time.monotonic() - began > PATIENCE_SECONDS:
                    raise TimeoutError(data[:100])
    head = received.split(b" ", 2)
    status = int(head[1]) if received.startswith(b"HTTP/1.") else CLOSED
    return Answer(status, received, time.monotonic() - began)


def attacks(targets: Targets) -> list[Attack]:
    """All of them."""
    made = [*_traversals(targets), *_links(targets), *_bodies(), *_values(targets), *_heads(), *_strangers(targets)]
    return [Attack(f"{number:03} {name}", data, statuses) for number, (name, data, statuses) in enumerate(made)]


_Made = tuple[str, bytes, frozenset[int]]


def _json(path: str, value: object, **headers: str) -> bytes:
    return request("POST", path, json.dumps(value).encode(), Content_Type="application/json", **headers)


def _form(*parts: tuple[str, bytes], **headers: str) -> bytes:
    body = b"".join(
        b"--x\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )
    return request(
        "POST", "/api/v1/searches", body + b"--x--\r\n", Content_Type="multipart/form-data; boundary=x", **headers
    )


def _traversals(targets: Targets) -> Iterator[_Made]:
    """Every place where a client names something."""
    bearer = {"Authorization": f"Bearer {targets.token}"}
    empty = frozenset({200}) | REFUSED
    for value in _TRAVERSALS:
        path, raw = quote(value, safe=""), value.replace("\0", "%00").replace("\\", "%5C")
        name = f"traversal {value[:30]!r}"
        for query in ("images?folder", "folders?parent", "images?cursor", "folders?cursor"):
            yield name, request("GET", f"/api/v1/{query}={path}"), empty
        for place in _PLACES:
            for spelled in (path, raw):
                yield name, request("GET", "/" + place.format(spelled)), REFUSED | {308, 301, CLOSED}
        yield name, request("GET", f"/duplicates?job={path}"), empty
        yield name, request("GET", f"/sign-in?next={path}"), frozenset({200, 303}) | REFUSED
        yield name, _json("/api/v1/index-jobs", {"folder": value}, **bearer), frozenset({422})
        yield name, _json("/api/v1/duplicate-jobs", {"folder": value}, **bearer), frozenset({202, 422})
        yield name, request("POST", f"/api/v1/index-jobs/{path}/retry", **bearer), REFUSED
        for field in ("folder", "image_id", "cursor", "url"):
            yield name, _json("/api/v1/searches", {field: value}), REFUSED
        yield (
            name,
            _form(('name="image"; filename="a.gif"', _PICTURE), ('name="folder"', value.encode())),
            frozenset({202}) | REFUSED,
        )


def _links(targets: Targets) -> Iterator[_Made]:
    """What was a picture when it was indexed, and leads out of the library now."""
    for image in targets.swapped:
        yield "swapped for a link", request("GET", f"/api/v1/images/{image}/original"), _NOT_FOUND
        yield "part of a link", request("GET", f"/api/v1/images/{image}/original", Range="bytes=0-99"), _NOT_FOUND


def _bodies() -> Iterator[_Made]:
    """Too large, without an end, broken."""
    form = {"Content_Type": "multipart/form-data; boundary=x"}
    start = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.gif"\r\n\r\n'
    too_large = frozenset({413, 400, 408})
    yield "a body of a petabyte", request("POST", "/api/v1/searches", start, length=10**15, **form), too_large
    yield (
        "a body that is larger than it may be",
        request("POST", "/api/v1/searches", start + bytes(3 << 20), **form),
        too_large,
    )
    chunk = b"%x\r\n" % (1 << 16) + bytes(1 << 16) + b"\r\n"
    endless = request("POST", "/api/v1/searches", Transfer_Encoding="chunked", **form) + 100 * chunk
    yield "chunks without an end", endless, too_large | {CLOSED}
    yield "thousands of parts", _form(*[('name="k"', b"1")] * 5000), frozenset({413})
    yield "thousands of pictures", _form(*[('name="image"; filename="a.gif"', _PICTURE)] * 5000), frozenset({413})
    yield "a field without an end", _form(('name="k"', b"1" * (1 << 20))), frozenset({413})
    yield "a part with a long head", _form((f'name="{"a" * 100_000}"', b"1")), frozenset({400, 413, 422})
    yield "no boundary", request("POST", "/api/v1/searches", b"--x--", Content_Type="multipart/form-data"), REFUSED
    yield "a boundary alone", request("POST", "/api/v1/searches", b"--x", **form), REFUSED
    yield "no picture", _form(('name="image"; filename="a.svg"', b"<svg onload=alert(1)>")), frozenset({415})
    yield (
        "a bomb",
        _form(('name="image"; filename="a.gif"', _PICTURE[:6] + b"\xff" * 4 + _PICTURE[10:])),
        frozenset({413, 422}),
    )
    for text in (
        "{",
        "[" * 50_000,
        '{"a":' * 5000,
        "null",
        "[]",
        '"a"',
        "NaN",
        '{"folder": NaN}',
        "1e999",
        "\0",
        '{"k": 1' + "0" * 5000 + "}",
    ):
        for path in ("/api/v1/searches", "/api/v1/index-jobs", "/sign-in"):
            yield (
                f"JSON {text[:20]!r}",
                request("POST", path, text.encode(), Content_Type="application/json"),
                REFUSED | {401},
            )
    yield (
        "JSON that is no text",
        request("POST", "/api/v1/searches", b"\xff\xfe{}", Content_Type="application/json"),
        REFUSED,
    )
    yield (
        "another kind of body",
        request("POST", "/api/v1/searches", b"<a/>", Content_Type="text/xml"),
        frozenset({415}),
    )


def _values(targets: Targets) -> Iterator[_Made]:
    """Numbers and ids that cannot be."""
    image = {"image_id": targets.image}
    for field, values in {
        "k": (0, -1, 1001, 1e308, 10**400, "3.5", [], None, "٣٣٣٣٣"),
        "crop": (
            [0, 0, 0, 0],
            [1, 1, 0, 0],
            [0, 0, 2, 2],
            [-1, 0, 1, 1],
            [0, 0, 1],
            "a,b,c,d",
            [1e308] * 4,
            ["NaN"] * 4,
        ),
        "min_score": (2, -2, "NaN", "Infinity", {}),
    }.items():
        for value in values:
            yield (
                f"{field} {str(value)[:20]}",
                _json("/api/v1/searches", {**image, field: value}),
                frozenset({422, 400}),
            )
    for weight in (1e9, "NaN", 0, -1):
        query = {"images": [{**image, "weight": weight}]}
        yield f"weight {weight}", _json("/api/v1/searches", query), frozenset({422, 400})
    for text in ("0", "-1", "1001", "9" * 400, "NaN", "%00", "1;DROP", "٣"):
        yield f"limit {text[:20]}", request("GET", f"/api/v1/images?limit={quote(text)}"), frozenset({422})
        yield (
            f"wait {text[:20]}",
            request("GET", f"/api/v1/searches/{'0' * 24}?wait={quote(text)}"),
            frozenset({422, 404}),
        )
    for text in (
        "*",
        "imagesearch:*",
        "a:b",
        "%0d%0aFLUSHALL",
        "%00",
        "ü",
        "a" * 65,
        "'--",
        "{{7*7}}",
        "<script>alert(1)</script>",
    ):
        for kind in ("searches", "index-jobs", "duplicate-jobs", "images"):
            yield f"id {text}", request("GET", f"/api/v1/{kind}/{quote(text, safe='%')}"), _NOT_FOUND
        yield f"page {text}", request("GET", f"/search/{quote(text, safe='%')}", Accept="text/html"), _NOT_FOUND
        yield f"nothing {text}", request("GET", f"/{quote(text, safe='%')}", Accept="text/html"), _NOT_FOUND
    original = f"/api/v1/images/{targets.image}/original"
    for value in ("bytes=9-1", "bytes=-0", "bytes=" + "0-1," * 2000, f"bytes={10**30}-", "lines=1", "bytes=a-b"):
        yield f"range {value[:20]}", request("GET", original, Range=value), frozenset({200, 206, 400, 416})
    yield "a tag", request("GET", original, If_None_Match='"' * 5000), frozenset({200, 304})
    yield "a date", request("GET", original, If_Modified_Since="never"), frozenset({200})


def _heads() -> Iterator[_Made]:
    """What is hardly HTTP, and what two servers could understand differently."""
    bad = frozenset({400, 404, 405, 411, 413, 414, 417, 431, 501, 505, CLOSED})
    end = b"\r\n\r\n"
    yield "no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + end, bad
    yield "HTTP/0.9", b"GET /" + end, bad
    yield "HTTP/9.9", b"GET / HTTP/9.9" + end, bad
    yield "a space too much", b"GET  / HTTP/1.1\r\nHost: x" + end, bad
    yield "a method of any kind", request("A" * 5000, "/"), bad
    yield "TRACE", request("TRACE", "/"), bad
    yield "CONNECT", request("CONNECT", "localhost:6379"), bad
    yield "a long address", request("GET", "/" + "a" * 20_000), bad
    yield "a long header", request("GET", "/", X="a" * 100_000), bad
    yield "many headers", request("GET", "/healthz", **{f"X{number}": "a" for number in range(2000)}), bad
    yield "two lengths", request("POST", "/sign-in", length=5, Content_Length="3") + b"abcde", bad
    yield "length and chunks", request("POST", "/sign-in", length=5, Transfer_Encoding="chunked") + b"0\r\n\r\nGET", bad
    yield "a negative length", request("POST", "/sign-in", length=-5), bad
    yield (
        "chunks of another coding",
        request("POST", "/sign-in", Transfer_Encoding="gzip, chunked") + b"0" + end,
        bad | {303, 401},
    )
    yield "a line of its own", b"GET /healthz HTTP/1.1\r\nHost: x\r\n folded: y" + end, bad
    yield "a colon with a space", b"GET /healthz HTTP/1.1\r\nHost : x" + end, bad
    yield "NUL", b"GET /healthz HTTP/1.1\r\nHost: x\0y" + end, bad
    yield "any Host", b"GET / HTTP/1.1\r\nHost: a b/../<c>" + end[:2] + b"Connection: close" + end, bad | {200}
    yield "an address of another site", request("GET", "http://169.254.169.254/latest/meta-data"), _NOT_FOUND
    yield "bytes in the address", b"GET /\xff\xfe%ff%fe HTTP/1.1\r\nHost: x\r\nConnection: close" + end, bad
    yield "a header by the address", request("GET", "/sign-in?next=/%0d%0aSet-Cookie:%20a=b"), frozenset({200, 303})
    yield "another site by the address", request("GET", "/sign-in?next=//evil.test"), frozenset({200, 303})


def _strangers(targets: Targets) -> Iterator[_Made]:
    """Changes by who may make none."""
    body = {"folder": "photos"}
    for header in (
        "Bearer",
        "Bearer x",
        f"Bearer {targets.token}x",
        f"Basic {targets.token}",
        "Bearer \xff",
        "B" * 5000,
    ):
        yield f"authorization {header[:20]}", _json("/api/v1/index-jobs", body, Authorization=header), frozenset({401})
    for cookie in ("x", "a.b.c", "\xff", "." * 5000, targets.token):
        sent = _json("/api/v1/index-jobs", body, Cookie=f"imagesearch_session={cookie}", Sec_Fetch_Site="same-origin")
        yield f"cookie {cookie[:20]}", sent, frozenset({401, 400})
    form = request(
        "POST", "/sign-in", b"token=x", Content_Type="application/x-www-form-urlencoded", Origin="https://evil.test"
    )
    yield "signed in by another site", form, frozenset({403})
    plain = request(
        "POST",
        "/api/v1/index-jobs",
        b'{"folder":"photos"}',
        Content_Type="text/plain",
        Authorization=f"Bearer {targets.token}",
    )
    yield "a form that looks like JSON", plain, frozenset({415})
    for key in ("", "a" * 5000, "\x80", "a b"):
        sent = _json("/api/v1/index-jobs", body, Authorization=f"Bearer {targets.token}", Idempotency_Key=key)
        yield f"key {key[:10]!r}", sent, frozenset({422, 400, 202})
    fetched = _json("/api/v1/searches", {"url": "http://169.254.169.254/latest/meta-data"})
    yield "an address inside", fetched, frozenset({422})
