"""Previews of the pictures that were searched for, in Redis beside the results, so that a shared search shows them."""

from __future__ import annotations

from typing import cast

import redis

from common.errors import UnknownPicture
from common.redis_client import key, refusals_ignored

# At most so many are kept, of all searches together: some 200 MB. Under load the oldest go before they expire.
MOST_PICTURES = 1000
# The searches that they belong to, one entry for each picture, newest first.
_ORDER = key("query-pictures")


class QueryPictures:
    """Keeps the previews of uploaded query pictures.

    Args:
        client: Redis.
        ttl_seconds: How long they are kept.
        most: Beyond so many the oldest are dropped.
    """

    def __init__(self, client: redis.Redis, *, ttl_seconds: int, most: int = MOST_PICTURES) -> None:
        self._redis = client
        self._ttl = ttl_seconds
        self._most = most

    def keep(self, search_id: str, number: int, picture: bytes) -> None:
        """Stores the preview of an upload of a search, counted from 0, unless Redis has no room for it."""
        beyond: list[bytes] = []
        with refusals_ignored(), self._redis.pipeline() as pipe:
            pipe.hset(_name(search_id), str(number), picture)
            pipe.expire(_name(search_id), self._ttl)
            pipe.lpush(_ORDER, search_id)
            pipe.expire(_ORDER, self._ttl)
            pipe.lrange(_ORDER, self._most, -1)
            pipe.ltrim(_ORDER, 0, self._most - 1)
            beyond = cast("list[bytes]", pipe.execute()[-2])
        if beyond:
            self._redis.delete(*(_name(old.decode()) for old in beyond))

    def read(self, search_id: str, number: int) -> bytes:
        """The preview of an upload, a JPEG.

        Raises:
            UnknownPicture: There is none.
        """
        picture = cast("bytes | None", self._redis.hget(_name(search_id), str(number)))
        if picture is None:
            raise UnknownPicture
        return picture

    def numbers(self, search_id: str) -> set[int]:
        """The uploads of a search of which there are previews."""
        return {int(number) for number in cast("list[bytes]", self._redis.hkeys(_name(search_id)))}

    def renew(self, search_id: str) -> None:
        """Keeps those of a search for as long as if they were new."""
        self._redis.expire(_name(search_id), self._ttl)


def _name(search_id: str) -> str:
    return key("search", search_id, "pictures")
