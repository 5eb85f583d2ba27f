"""One place that opens Redis, and that turns its failures into the product's own error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from common.errors import RedisFull, RedisRefuses, RedisUnavailable
from common.settings import Settings

NAMESPACE = "imagesearch"

# With these words Redis begins when it is there and refuses to be changed; in what it says of a script they come later.
_REFUSALS = {
    "MISCONF": "Redis cannot write to its disk, so it takes nothing: make room on the disk of Redis.",
    "READONLY": "This Redis is a replica that takes nothing: IMAGESEARCH_REDIS_URL must name the primary.",
}
_OUT_OF_MEMORY = "OOM command not allowed"


def key(*parts: str) -> str:
    """A Redis key of this product."""
    return ":".join((NAMESPACE, *parts))


def connect(settings: Settings) -> redis.Redis:
    """A client with a connection pool; nothing is sent before the first command.

    Without socket timeouts a command on a half-open connection waits for ever.
    """
    return redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=40,
        socket_connect_timeout=2,
        health_check_interval=30,
        **tls_options(settings),
    )


def tls_options(settings: Settings) -> dict[str, Any]:
    """How the certificate of a Redis with TLS is checked, for redis-py and Celery alike; empty without TLS."""
    if not settings.redis_url.startswith("rediss://"):
        return {}
    options: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    if settings.redis_ca is not None:
        options["ssl_ca_certs"] = str(settings.redis_ca)
    return options


@contextmanager
def reported(settings: Settings) -> Iterator[None]:
    """Turns connection failures inside the block into `RedisUnavailable`, and refusals into `RedisRefuses`."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise RedisUnavailable(public_url(settings.redis_url), error) from error
    except redis.RedisError as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from error


def is_refusal(error: BaseException) -> bool:
    """Whether Redis answered that it takes nothing at present; what is only read still works then."""
    return _refusal(error) is not None


@contextmanager
def refusals_ignored() -> Iterator[None]:
    """Goes on where Redis refuses what can be done without."""
    try:
        yield
    except redis.RedisError as error:
        if not is_refusal(error):
            raise


def _refusal(error: BaseException) -> RedisRefuses | None:
    if not isinstance(error, redis.RedisError):
        return None
    told = str(error)
    if isinstance(error, redis.OutOfMemoryError) or _OUT_OF_MEMORY in told:
        return RedisFull()
    if isinstance(error, redis.ReadOnlyError):
        return RedisRefuses(_REFUSALS["READONLY"])
    return next((RedisRefuses(text) for word, text in _REFUSALS.items() if word in told), None)


def public_url(url: str) -> str:
    """The URL without its password, for messages."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
