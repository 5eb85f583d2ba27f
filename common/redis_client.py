"""One place that opens Redis, and that turns its failures into the product's own error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from common.errors import RedisFull, RedisRefuses, RedisSilent, RedisUnavailable, ServiceUnavailable
from common.settings import Settings

NAMESPACE = "imagesearch"
# No command of ours takes long: one waits in slices of a second, and lists of files lie in the data folder.
ANSWER_SECONDS = 5.0
_CONNECT_SECONDS = 2.0
# Where Redis does not answer, it is asked again so long after somebody has waited for it in vain.
_ASK_AGAIN_SECONDS = 2.0
# Pictures of searches fill Redis up to this part of its `maxmemory`; the rest is for jobs, results and the queues.
FULL = 0.9

# With these words Redis begins when it is there and refuses to be changed; in what it says of a script they come later.
_REFUSALS = {
    "MISCONF": "Redis cannot write to its disk, so it takes nothing: make room on the disk of Redis.",
    "READONLY": "This Redis is a replica that takes nothing: IMAGESEARCH_REDIS_URL must name the primary.",
}
_OUT_OF_MEMORY = "OOM command not allowed"


def key(*parts: str) -> str:
    """A Redis key of this product."""
    return ":".join((NAMESPACE, *parts))


def connect(settings: Settings, *, patient: bool = False) -> redis.Redis:
    """A client with a connection pool; nothing is sent before the first command.

    A connection that has died is made again at once, and for a second after that, so that nobody notices a restart of
    Redis or a proxy that ended what was idle. What is not answered within `ANSWER_SECONDS` is not asked again: a person
    waits. Each command may so be done twice, and must not mind.

    Args:
        settings: The settings.
        patient: For work that is dear and that nobody waits for: goes on trying for some 8 s where Redis is away, for
            50 s where it does not answer.
    """
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 4, (redis.ConnectionError,))
    if patient:
        retry = Retry(ExponentialBackoff(cap=1.5, base=0.05), 8, (redis.ConnectionError, redis.TimeoutError))
    return redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=_CONNECT_SECONDS,
        retry=retry,
        **tls_options(settings),
    )


def check(client: redis.Redis) -> None:
    """Makes sure that Redis takes something now: one that is full or may not write answers a PING all the same.

    Raises:
        redis.RedisError: It cannot be reached, or takes nothing.
    """
    with client.pipeline(transaction=False) as pipe:
        pipe.set(key("probe"), 1, ex=60)
        pipe.info("memory")
        memory = cast("dict[str, int]", pipe.execute()[1])
    if memory.get("maxmemory", 0) and memory["used_memory"] > FULL * memory["maxmemory"]:
        raise redis.OutOfMemoryError(_OUT_OF_MEMORY)  # no search is taken any more


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
    """Turns connection failures inside the block into `RedisUnavailable`, and refusals into `RedisRefuses`.

    Where Redis does not answer, one caller at a time waits for it, and all others are told so at once.
    """
    silence = _silences.setdefault(settings.redis_url, _Silence())
    try:
        silence.ask(settings)
        yield
    except redis.RedisError as error:
        if isinstance(error, redis.TimeoutError):
            silence.begin()
        own = own_error(error, settings)
        if own is None:
            raise
        raise own from error


def own_error(error: redis.RedisError, settings: Settings) -> ServiceUnavailable | None:
    """The product's own error for one that Redis caused, if it is none of ours: away, silent, or taking nothing."""
    if isinstance(error, redis.TimeoutError):
        return RedisSilent(public_url(settings.redis_url), ANSWER_SECONDS)
    if isinstance(error, redis.ConnectionError):
        return RedisUnavailable(public_url(settings.redis_url), error)
    return _refusal(error)


class _Silence:
    """What is known about a Redis that does not answer. Else each thread of a server would wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ask_at: float | None = None

    def begin(self) -> None:
        """Somebody has waited in vain: the next one asks."""
        with self._lock:
            self._ask_at = time.monotonic()

    def ask(self, settings: Settings) -> None:
        """Makes sure that it answers, if there is any doubt.

        Raises:
            RedisSilent: It does not, or another one is just asking.
        """
        with self._lock:
            if self._ask_at is None:
                return
            now = time.monotonic()
            if now < self._ask_at:
                raise RedisSilent(public_url(settings.redis_url), ANSWER_SECONDS)
            self._ask_at = now + _CONNECT_SECONDS + ANSWER_SECONDS
        try:
            with connect(settings) as client:
                client.ping()
        except redis.TimeoutError as error:
            with self._lock:
                self._ask_at = time.monotonic() + _ASK_AGAIN_SECONDS
            raise RedisSilent(public_url(settings.redis_url), ANSWER_SECONDS) from error
        except redis.RedisError:
            pass  # it is no longer silent; what it is, shows what is asked next
        with self._lock:
            self._ask_at = None


_silences: dict[str, _Silence] = {}


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
