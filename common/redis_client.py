"""One place that opens Redis, and that turns its failures into the product's own error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from common.errors import RedisUnavailable
from common.settings import Settings

NAMESPACE = "imagesearch"


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
    """Turns connection failures inside the block into `RedisUnavailable`."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise RedisUnavailable(public_url(settings.redis_url), error) from error


def public_url(url: str) -> str:
    """The URL without its password, for messages."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
