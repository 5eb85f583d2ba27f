from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from common.errors import UnknownPicture
from common.query_pictures import QueryPictures
from common.redis_client import NAMESPACE


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_a_preview_is_found_by_search_and_number(client: redis.Redis) -> None:
    pictures = QueryPictures(client, ttl_seconds=100)
    pictures.keep("one", 0, b"first")
    pictures.keep("one", 2, b"third")
    assert (pictures.read("one", 0), pictures.read("one", 2)) == (b"first", b"third")
    assert pictures.numbers("one") == {0, 2}
    assert pictures.numbers("two") == set()
    for search_id, number in (("one", 1), ("two", 0)):
        with pytest.raises(UnknownPicture, match="no preview"):
            pictures.read(search_id, number)


def test_previews_expire_and_can_be_renewed(client: redis.Redis) -> None:
    pictures = QueryPictures(client, ttl_seconds=100)
    pictures.keep("one", 0, b"first")
    assert all(0 < client.ttl(name) <= 100 for name in client.scan_iter())
    client.expire(f"{NAMESPACE}:search:one:pictures", 5)
    pictures.renew("one")
    assert client.ttl(f"{NAMESPACE}:search:one:pictures") > 90
    pictures.renew("two")
    assert pictures.numbers("two") == set()


def test_beyond_the_limit_the_oldest_go(client: redis.Redis) -> None:
    pictures = QueryPictures(client, ttl_seconds=100, most=3)
    for number in range(5):
        pictures.keep(f"search-{number}", 0, b"picture")
    pictures.keep("search-5", 0, b"a")
    pictures.keep("search-5", 1, b"b")
    kept = [number for number in range(6) if pictures.numbers(f"search-{number}")]
    assert kept == [4, 5]
    assert pictures.numbers("search-5") == {0, 1}
    assert client.dbsize() == 3
