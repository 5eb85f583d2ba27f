"""What somebody with bad intentions sends to a real server, and what file names could do to those who look at them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.request import urlopen

from flask.testing import FlaskClient

from common.settings import Settings
from tests.fuzz.world import attacked_world
from tests.unit.web.building import index_files

# Names that Linux allows.
NAMES = [
    '"><img src=x onerror=alert(1)>.jpg',
    'a"; filename="b.html',
    "line\r\nSet-Cookie: a=b\r\n\r\n<script>.jpg",
    "ü 😀 ‮gpj.exe.jpg",
    "page.html",
    "drawing.svg",
    "{{7*7}}.jpg",
]
HTML = {"Accept": "text/html"}


def test_every_attack_is_answered_as_it_should_be(settings: Settings, tmp_path: Path) -> None:
    with attacked_world(settings, tmp_path) as world:
        problems, count, _ = world.attack()
        assert problems == []
        assert count > 500
        with urlopen(f"{world.address}/healthz", timeout=30) as response:
            assert response.status == 200


def test_names_of_files_get_into_no_header_and_no_page(client: FlaskClient, settings: Settings, library: Path) -> None:
    entries = index_files(settings, library, NAMES)
    for entry in entries:
        response = client.get(f"/api/v1/images/{entry.image_id}/original")
        assert response.status_code == 200
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"
        assert "Set-Cookie" not in response.headers
        disposition = response.headers["Content-Disposition"]
        assert disposition.isascii()
        assert disposition.isprintable()
        is_picture = entry.path.endswith(".jpg")
        assert response.mimetype == ("image/jpeg" if is_picture else "application/octet-stream")
        assert disposition.startswith("inline" if is_picture else "attachment")
        response.close()
    for path in ("/", "/browse", "/browse/photos"):
        page = client.get(path, headers=HTML).get_data(as_text=True)
        assert "onerror=alert(1)&gt;" in page or "onerror=alert(1)\\u003e" in page
        assert "<img src=x" not in page
        assert not re.search(r"<script>\.jpg", page)
        assert "49.jpg" not in page


def test_pages_cannot_be_framed(client: FlaskClient) -> None:
    for path in ("/", "/folders", "/sign-in", "/api/v1/status"):
        response = client.get(path)
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Frame-Options"] == "DENY"
