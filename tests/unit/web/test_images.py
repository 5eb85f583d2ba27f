"""Images, their thumbnails and files through the API."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from common.settings import Settings
from common.store import FeatureStore, Tombstone, image_id, open_store
from tests.unit.helpers import record, unit_vectors
from tests.unit.web.building import SPEC, index_files, picture_bytes

Check = Callable[[TestResponse, int], str]
IMAGES = "/api/v1/images"


def test_no_images_before_any_model_is_resolved(client: FlaskClient, check_problem: Check) -> None:
    assert client.get(IMAGES).get_json() == {"images": [], "next_cursor": None}
    check_problem(client.get(f"{IMAGES}/{'0' * 32}"), 404)


def test_pages_follow_each_other_to_the_end(client: FlaskClient, settings: Settings, library: Path) -> None:
    names = sorted(["a.jpg", "b/ä ö.jpg", "b/c.jpg", "b/d/e.jpg", "z.jpg"], key=str.encode)
    index_files(settings, library, names)
    seen: list[str] = []
    cursor = None
    for size in (2, 2, 1):
        page = client.get(IMAGES, query_string={"limit": 2, **({"cursor": cursor} if cursor else {})}).get_json()
        assert len(page["images"]) == size
        seen += [image["path"] for image in page["images"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == [f"photos/{name}" for name in names]


def test_a_folder_limits_the_images(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg", "b/c.jpg", "b/d/e.jpg", "bc/f.jpg"])
    for folder in ("photos/b", str(library / "b")):
        page = client.get(IMAGES, query_string={"folder": folder}).get_json()
        assert [image["path"] for image in page["images"]] == ["photos/b/c.jpg", "photos/b/d/e.jpg"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "cursor=!!", "cursor=_w", "folder=/etc", "folder=photos/../..", "direct=x"],
)
def test_values_that_cannot_be_used_are_refused(client: FlaskClient, check_problem: Check, query: str) -> None:
    check_problem(client.get(f"{IMAGES}?{query}"), 422)


def test_the_record_of_an_image(client: FlaskClient, settings: Settings, library: Path) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    record = client.get(f"{IMAGES}/{entry.image_id}").get_json()
    assert record["path"] == "photos/a.jpg"
    assert (record["width"], record["height"]) == (48, 32)
    assert record["size"] == (library / "a.jpg").stat().st_size
    assert record["content_hash"] == entry.record.content_hash.hex()


def test_unknown_images_are_not_found(
    client: FlaskClient, settings: Settings, library: Path, check_problem: Check
) -> None:
    index_files(settings, library, ["a.jpg"])
    for unknown in ("0" * 32, "zz", "..%2f..%2fetc%2fpasswd", "%00"):
        for part in ("", "/thumbnail", "/original"):
            check_problem(client.get(f"{IMAGES}/{unknown}{part}"), 404)


def test_what_is_indexed_while_the_server_runs_is_seen(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    assert len(client.get(IMAGES).get_json()["images"]) == 1
    index_files(settings, library, ["b.jpg"], segment="second")
    assert len(client.get(IMAGES).get_json()["images"]) == 2
    open_store(settings).publish("third", precision="float32", tombstones=[Tombstone("photos/a.jpg", 5)])
    assert [image["path"] for image in client.get(IMAGES).get_json()["images"]] == ["photos/b.jpg"]


def test_an_image_is_found_while_another_request_takes_it_in(
    client: FlaskClient, settings: Settings, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_files(settings, library, ["a.jpg"])
    client.get("/api/v1/images")
    has_begun, may_end = threading.Event(), threading.Event()
    refresh = FeatureStore.refresh

    def slowly(store: FeatureStore, *, strict: bool = True) -> bool:
        has_begun.set()
        may_end.wait(20)
        return refresh(store, strict=strict)

    open_store(settings).publish(
        "second",
        precision="float32",
        records=[record("photos/b.jpg")],
        features=unit_vectors(1, dimension=SPEC.dimension),
        thumbnails=[b""],
    )
    monkeypatch.setattr(FeatureStore, "refresh", slowly)
    address = f"/api/v1/images/{image_id('photos/b.jpg')}"
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.application.test_client().get, "/api/v1/images")
        assert has_begun.wait(20)
        second = pool.submit(client.application.test_client().get, address)
        time.sleep(0.1)  # it has looked in the catalog by now, in vain
        may_end.set()
        assert second.result(20).status_code == 200
        assert first.result(20).status_code == 200


def test_another_model_has_another_collection(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg", "b.jpg"])
    assert len(client.get(IMAGES).get_json()["images"]) == 2
    other = SPEC.model_copy(update={"weights_sha256": "1" * 64})
    index_files(settings, library, ["b.jpg"], spec=other)
    assert [image["path"] for image in client.get(IMAGES).get_json()["images"]] == ["photos/b.jpg"]


def test_thumbnail_is_a_small_jpeg_that_is_not_sent_twice(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    (library / "big.jpg").write_bytes(picture_bytes(size=(1200, 800)))
    entry = index_files(settings, library, ["big.jpg"])[0]
    response = client.get(f"{IMAGES}/{entry.image_id}/thumbnail")
    assert response.mimetype == "image/jpeg"
    assert response.headers["Cache-Control"].startswith("private")
    assert Image.open(io.BytesIO(response.data)).size == (320, 213)

    again = client.get(f"{IMAGES}/{entry.image_id}/thumbnail", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    other = client.get(f"{IMAGES}/{entry.image_id}/thumbnail", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_original_is_the_file_itself(client: FlaskClient, settings: Settings, library: Path) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    response = client.get(f"{IMAGES}/{entry.image_id}/original")
    assert response.data == (library / "a.jpg").read_bytes()
    assert response.mimetype == "image/jpeg"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    again = client.get(f"{IMAGES}/{entry.image_id}/original", headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304
    again.close()
    response.close()


def test_part_of_an_original(client: FlaskClient, settings: Settings, library: Path, check_problem: Check) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    data = (library / "a.jpg").read_bytes()
    response = client.get(f"{IMAGES}/{entry.image_id}/original", headers={"Range": "bytes=2-9"})
    assert (response.status_code, response.data) == (206, data[2:10])
    assert response.headers["Content-Range"] == f"bytes 2-9/{len(data)}"
    response.close()
    with client.get(f"{IMAGES}/{entry.image_id}/original", headers={"Range": "bytes=-5"}) as response:
        assert (response.status_code, response.data) == (206, data[-5:])
    outside = client.get(f"{IMAGES}/{entry.image_id}/original", headers={"Range": "bytes=99999-"})
    check_problem(outside, 416)
    assert outside.headers["Content-Range"] == f"bytes */{len(data)}"


def test_a_part_is_sent_only_of_the_file_that_the_client_began_with(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    url = f"{IMAGES}/{entry.image_id}/original"
    with client.get(url) as response:
        etag = response.headers["ETag"]
        assert response.headers["Accept-Ranges"] == "bytes"
    with client.get(url, headers={"Range": "bytes=2-9", "If-Range": etag}) as response:
        assert response.status_code == 206
    (library / "a.jpg").write_bytes(picture_bytes("red", size=(60, 40)))
    with client.get(url, headers={"Range": "bytes=2-9", "If-Range": etag}) as response:
        assert (response.status_code, response.data) == (200, (library / "a.jpg").read_bytes())
    with client.get(url, headers={"If-None-Match": etag}) as response:
        assert response.status_code == 200


def test_the_head_of_a_picture_says_what_there_is(client: FlaskClient, settings: Settings, library: Path) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    for part in ("thumbnail", "original"):
        url = f"{IMAGES}/{entry.image_id}/{part}"
        with client.get(url) as whole, client.head(url) as head:
            assert (head.status_code, head.data) == (200, b"")
            assert int(head.headers["Content-Length"]) == len(whole.data) > 0
            for name in ("Content-Type", "ETag", "Cache-Control"):
                assert head.headers[name] == whole.headers[name]
        with client.head(url, headers={"If-None-Match": f'"other", {whole.headers["ETag"]}'}) as response:
            assert response.status_code == 304
            assert response.headers["ETag"] == whole.headers["ETag"]


def test_the_thumbnail_of_another_content_has_another_tag(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    url = f"{IMAGES}/{entry.image_id}/thumbnail"
    before = client.get(url)
    (library / "a.jpg").write_bytes(picture_bytes("red"))
    assert index_files(settings, library, ["a.jpg"], segment="second")[0].image_id == entry.image_id
    after = client.get(url, headers={"If-None-Match": before.headers["ETag"]})
    assert (after.status_code, before.status_code) == (200, 200)
    assert after.data != before.data
    assert after.headers["ETag"] != before.headers["ETag"]


def test_a_name_that_is_no_picture_is_offered_as_a_download(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    (library / "page.html").write_bytes(picture_bytes())
    entry = index_files(settings, library, ["page.html"])[0]
    response = client.get(f"{IMAGES}/{entry.image_id}/original")
    assert response.mimetype == "application/octet-stream"
    assert response.headers["Content-Disposition"] == "attachment; filename=page.html"
    response.close()


def test_a_file_that_is_gone_is_said_to_be(
    client: FlaskClient, settings: Settings, library: Path, check_problem: Check
) -> None:
    entry = index_files(settings, library, ["a.jpg"])[0]
    (library / "a.jpg").unlink()
    assert "moved or deleted" in check_problem(client.get(f"{IMAGES}/{entry.image_id}/original"), 404)
    (library / "a.jpg").mkdir()
    check_problem(client.get(f"{IMAGES}/{entry.image_id}/original"), 404)
    assert client.get(f"{IMAGES}/{entry.image_id}/thumbnail").status_code == 200


def test_a_file_replaced_by_a_link_out_of_the_library_is_not_served(
    client: FlaskClient, settings: Settings, library: Path, tmp_path: Path, check_problem: Check
) -> None:
    entry = index_files(settings, library, ["a/b.jpg", "c.jpg"])[0]
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "b.jpg").write_bytes(b"secret")
    (library / "a" / "b.jpg").unlink()
    (library / "a" / "b.jpg").symlink_to(secret / "b.jpg")
    check_problem(client.get(f"{IMAGES}/{entry.image_id}/original"), 404)
    (library / "a" / "b.jpg").unlink()
    (library / "a").rmdir()
    (library / "a").symlink_to(secret)
    check_problem(client.get(f"{IMAGES}/{entry.image_id}/original"), 404)
    # A link inside the library is as good as the file.
    (library / "a").unlink()
    (library / "a").mkdir()
    (library / "a" / "b.jpg").symlink_to(library / "c.jpg")
    response = client.get(f"{IMAGES}/{entry.image_id}/original")
    assert response.status_code == 200
    response.close()
