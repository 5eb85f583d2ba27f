"""How much each client may ask for: so many searches, and so many started jobs, a minute.

One Lua script decides for all web processes by the clock of Redis: a bucket for each client and kind, which holds a
minute's worth and fills up steadily. It is kept as the time at which it will be full again, so a client that has been
quiet for a minute costs Redis nothing.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from functools import wraps
from typing import Literal, ParamSpec, TypeVar, cast

import redis
from apiflask import HTTPError
from flask import request

from common.redis_client import key, reported
from web.services import services

logger = logging.getLogger(__name__)

Kind = Literal["search", "job"]

TOO_MANY = "The client has asked for too much in the last minute; `Retry-After` says when it may go on."

_NAMES = {"search": "searches or pages of results", "job": "new jobs"}

P = ParamSpec("P")
T = TypeVar("T")

_MINUTE_MS = 60_000
# KEYS: the bucket. ARGV: milliseconds that one thing costs, milliseconds that a full bucket is worth.
# Gives 0 and takes one; or the milliseconds after which there will be one.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local full = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0)) + tonumber(ARGV[1])
local wait = full - now - tonumber(ARGV[2])
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now))
return 0
"""


def limited(kind: Kind) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes a view answer 429 to clients that ask for more of a kind than the settings let them."""

    def decorate(view: Callable[P, T]) -> Callable[P, T]:
        @wraps(view)
        def answer(*args: P.args, **kwargs: P.kwargs) -> T:
            require_room(kind)
            return view(*args, **kwargs)

        return answer

    return decorate


def require_room(kind: Kind) -> None:
    """Takes one of what the client may ask for.

    Raises:
        HTTPError: 429; there is nothing left.
        RedisUnavailable: Redis is away, so the request cannot be answered anyhow.
    """
    settings = services().settings
    limit = settings.search_rate_limit if kind == "search" else settings.job_rate_limit
    if limit == 0:
        return
    wait_ms = _take(key("limit", kind, client_name(request.remote_addr)), limit)
    if wait_ms:
        message = f"This server takes at most {limit:,} {_NAMES[kind]} a minute from each client."
        raise HTTPError(429, message, headers={"Retry-After": str(-(-wait_ms // 1000))})


def client_name(address: str | None) -> str:
    """Who counts as one client: an IPv4 address, or the network that an IPv6 host chooses its addresses from."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)


def _take(bucket: str, limit: int) -> int:
    current = services()
    with reported(current.settings):
        try:
            script = current.client.redis.register_script(_TAKE)
            return cast(int, script(keys=[bucket], args=[_MINUTE_MS / limit, _MINUTE_MS]))
        except redis.ResponseError as error:
            # It answers but takes nothing, because its memory is full: whoever needs it for more will be told.
            logger.warning("rate limits are not counted: %s", error)
            return 0
