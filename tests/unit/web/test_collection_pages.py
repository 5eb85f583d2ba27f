"""The pages of the collection as they arrive, before any script runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from flask.testing import FlaskClient

from common.duplicates import DuplicateBoard, DuplicateGroup, DuplicateImage
from common.progress import JobBoard
from common.settings import Settings
from common.store import CatalogEntry
from tests.unit.web.building import index_files, report_worker
from web.overview import code_spans, duration, file_size, seconds_ago

MakeClient = Callable[..., FlaskClient]
BROWSER = {"Accept": "text/html"}


def get(client: FlaskClient, path: str, status: int = 200) -> str:
    """The text of a page, without the templates of its scripts."""
    response = client.get(path, headers=BROWSER)
    assert (response.status_code, response.mimetype) == (status, "text/html")
    return re.sub(r"<template.*?</template>", "", response.get_data(as_text=True), flags=re.DOTALL)


def words(page: str) -> str:
    """What somebody reads, hidden parts included."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
def jobs(settings: Settings) -> JobBoard:
    """The index jobs as the workers see them."""
    return JobBoard(redis.Redis.from_url(settings.redis_url))


@pytest.fixture
def duplicates(settings: Settings) -> DuplicateBoard:
    """The searches for duplicates as the workers see them."""
    return DuplicateBoard(redis.Redis.from_url(settings.redis_url), settings.data_dir)


# --- index jobs and workers --------------------------------------------------------------------------------------


def test_job_is_complete_before_any_script_runs(client: FlaskClient, jobs: JobBoard) -> None:
    job_id = jobs.create("photos/2024").id
    plan = jobs.start_plan(job_id)
    assert plan is not None
    jobs.add(job_id, {"found": 12480, "unchanged": 480, "total": 12000, "removed": 3})
    jobs.finish_scan(job_id, plan)
    jobs.finish_batch(job_id, plan, "b", done=2998, failed={"x": "broken", "y": "broken"}, duplicates=0)
    page = get(client, "/folders")
    assert f'data-job="{job_id}" data-state="running"' in page
    text = words(page)
    assert "photos/2024 running 25 % 3,000 of 12,000 files" in text
    assert "12,480 found 480 unchanged 12,000 new or changed 0 duplicates 3 removed 2 failed" in text
    assert '<progress max="12000" value="3000"' in page
    visible = re.findall(r'data-action="(\w+)">', page)
    assert visible == ["pause", "cancel"]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"found": 7, "unchanged": 7}, "Nothing new: 7 pictures already indexed"),
        ({}, "Nothing new"),
    ],
)
def test_job_without_work_says_so(client: FlaskClient, jobs: JobBoard, counts: dict[str, int], expected: str) -> None:
    job_id = jobs.create("photos").id
    plan = jobs.start_plan(job_id)
    assert plan is not None
    jobs.add(job_id, counts)
    jobs.finish_scan(job_id, plan)
    page = get(client, "/folders")
    assert expected in words(page)
    assert re.findall(r'data-action="(\w+)">', page) == ["again"]


def test_what_goes_on_stands_before_what_is_over(client: FlaskClient, jobs: JobBoard) -> None:
    first, second = jobs.create("photos/first").id, jobs.create("photos/second").id
    jobs.fail(second, "The disk is full.")
    page = get(client, "/folders")
    assert re.findall(r'data-job="([^"]+)"', page) == [first, second]
    assert "The disk is full." in page


def test_workers_are_listed_by_what_they_do(client: FlaskClient, settings: Settings) -> None:
    missing = words(get(client, "/folders"))
    for queue in ("query", "bulk", "maintenance"):
        assert f"imagesearch worker --queues {queue}" in missing
    seen = datetime.now(timezone.utc) - timedelta(seconds=3)
    report_worker(settings, queue="bulk", queues=["bulk", "maintenance"], state="busy", last_seen=seen)
    report_worker(settings, queue="query", state="loading", threads=4, images_per_second=12.34)
    page = get(client, "/folders")
    roles = dict(re.findall(r'data-role="(\w+)"(.*?)</section>', page, re.DOTALL))
    assert "loading" in words(roles["query"])
    assert "12.3 pictures/s · bfloat16 · 4 threads · process 4711 · seen 0 s ago" in words(roles["query"])
    for role in ("bulk", "maintenance"):
        assert "busy" in words(roles[role])
        assert "seen 3 s ago" in words(roles[role])


def test_folder_of_the_address_stands_in_the_form(client: FlaskClient) -> None:
    assert 'value="photos/&#34;&lt;b&gt;"' in get(client, '/folders?folder=photos/"<b>')


# --- folders of pictures -----------------------------------------------------------------------------------------


def test_folders_are_browsed_level_by_level(client: FlaskClient, settings: Settings, library: Path) -> None:
    entries = index_files(settings, library, ["a/x.jpg", "a/deep/y.jpg", "z.jpg"])
    page = get(client, "/browse")
    assert re.findall(r'class="folder-card card" href="([^"]+)"', page) == ["/browse/photos"]
    assert "photos 3 pictures" in words(page)
    page = get(client, "/browse/photos")
    assert re.findall(r'class="folder-card card" href="([^"]+)"', page) == ["/browse/photos/a"]
    # In the order of the paths; the first picture stands for its folder.
    expected = sorted(entries, key=lambda entry: entry.path)
    assert re.findall(r'class="tile" data-id="([^"]+)"', page) == [entry.image_id for entry in expected]
    assert f"/api/v1/images/{expected[0].image_id}/thumbnail" in page[: page.index('class="gallery"')]
    deep = get(client, "/browse/photos/a/deep/")
    trail = deep[deep.index('class="trail"') : deep.index("</nav>", deep.index('class="trail"'))]
    assert re.findall(r'href="([^"]+)"', trail) == [
        "/browse", "/browse/photos", "/browse/photos/a", "/browse/photos/a/deep"
    ]  # fmt: skip


def test_names_of_folders_are_escaped(client: FlaskClient, settings: Settings, library: Path) -> None:
    name = "<img src=x onerror=alert(1)> 50%\"'#?&"
    (entry,) = index_files(settings, library, [f"{name}/in/{name}.jpg"])
    address = f"/browse/photos/{quote(name)}"
    for path in ("/browse/photos", address, f"{address}/in"):
        page = get(client, path)
        assert "<img src=x" not in page
        assert entry.image_id in page
    (link,) = re.findall(r'class="folder-card card" href="([^"]+)"', get(client, "/browse/photos"))
    assert name in words(get(client, unescape(link)))


def test_the_first_pictures_say_where_the_next_ones_begin(
    client: FlaskClient, settings: Settings, library: Path
) -> None:
    index_files(settings, library, [f"{number:02}.jpg" for number in range(61)])
    page = get(client, "/browse/photos")
    assert page.count('class="tile"') == 60
    (cursor,) = re.findall(r'data-cursor="([^"]+)"', page)
    rest = client.get(f"/api/v1/images?folder=photos&cursor={cursor}").get_json()
    assert [image["path"] for image in rest["images"]] == ["photos/60.jpg"]


def test_more_folders_are_on_a_page_of_their_own(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, [f"{number:02}/x.jpg" for number in range(61)])
    page = get(client, "/browse/photos")
    assert page.count('class="folder-card card"') == 60
    (link,) = re.findall(r'id="more-folders" href="([^"]+)"', page)
    rest = get(client, unescape(link))
    assert re.findall(r'class="folder-card card" href="([^"]+)"', rest) == ["/browse/photos/60"]
    assert "more-folders" not in rest


def test_folder_that_is_not_there(client: FlaskClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a/x.jpg"])
    assert "photos/b" in words(get(client, "/browse/photos/b", 404))
    # The beginning of a name is no folder.
    assert "No such folder" in get(client, "/browse/photos/a/x.jp", 404)
    assert "outside the library" in get(client, "/browse/elsewhere", 404)
    assert get(client, "/browse/photos?folders=%00", 422)


def test_empty_collection_says_how_to_start(client: FlaskClient, settings: Settings, library: Path) -> None:
    page = get(client, "/browse")
    assert page.count("<li><div><strong>") == 3
    assert "Nothing of this folder is indexed yet" in get(client, "/browse/photos")
    index_files(settings, library, ["a.jpg"])
    assert "<li><div><strong>" not in get(client, "/browse")


def test_pictures_are_browsed_without_redis(make_client: MakeClient, settings: Settings, library: Path) -> None:
    index_files(settings, library, ["a.jpg"])
    page = get(make_client(redis_url="redis://localhost:1/0"), "/browse/photos")
    assert "Redis is not reachable" in page
    assert page.count('class="tile"') == 1


# --- near-duplicates ---------------------------------------------------------------------------------------------


def group_of(entries: list[CatalogEntry]) -> DuplicateGroup:
    """A group of these."""
    images = [
        DuplicateImage(image_id=entry.image_id, path=entry.path, width=48, height=32, size=1500 * number)
        for number, entry in enumerate(entries, 1)
    ]
    return DuplicateGroup(images=images, lowest_score=0.98, best_score=0.98)


def test_latest_groups_are_shown(
    client: FlaskClient, settings: Settings, library: Path, duplicates: DuplicateBoard
) -> None:
    entries = index_files(settings, library, ["<b>a.jpg", "b.jpg", "c.jpg"])
    assert "Nobody has looked for duplicates yet" in get(client, "/duplicates")
    for _ in range(2):
        job = duplicates.begin(duplicates.create(0.97, "photos").id)
        assert job is not None
        duplicates.finish(job, [group_of(entries)])
    waiting = duplicates.create(0.9, None)
    page = get(client, "/duplicates")
    text = words(page)
    assert "1 group with 3 pictures similarity from 0.970, photos" in text
    assert "3 pictures similarity 0.980 · 4.5 KB to be freed by keeping one" in text
    assert re.search(r"photos/ <b>a\.jpg 48 . 32 · 1\.5 KB", text)
    assert "<b>a.jpg" not in page
    assert "Waiting for the maintenance worker" in text
    assert f'"active": "{waiting.id}"' in page
    assert page.count("?job=") == 1  # the earlier one
    duplicates.fail(waiting, "The disk is full.")
    assert "The search for duplicates failed. The disk is full." in words(get(client, "/duplicates"))


# --- how numbers and times are written ---------------------------------------------------------------------------


def test_numbers_and_times_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (0.2, 59.4, 61, 3599, 7260)] == [
        "1 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "2 h 1 min",
    ]
    assert [file_size(count) for count in (0, 999, 1500, 250_000, 2_000_000, 3_400_000_000_000)] == [
        "0 B", "999 B", "1.5 KB", "250 KB", "2.0 MB", "3400 GB"
    ]  # fmt: skip
    assert seconds_ago(datetime.now(timezone.utc) + timedelta(seconds=9)) == 0
    assert code_spans("Type `a<b`") == "Type <code>a&lt;b</code>"
