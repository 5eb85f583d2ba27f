"""`Idempotency-Key`: a submission that is sent again with its key is answered as before, and starts nothing new.

So a client that got no answer can simply repeat its request. This follows draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Annotated, Any, TypeVar, cast

import redis
from apiflask import HTTPError
from flask import Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from common.errors import ServiceUnavailable
from common.messages import Message
from common.redis_client import key as redis_key
from common.redis_client import reported
from web.services import services

KEEP_SECONDS = 24 * 3600
# A web process that dies while it handles a request leaves the key taken: for longer than any request lasts.
CLAIM_SECONDS = 120

STILL_HANDLED = "The first request with this Idempotency-Key is still being handled."
REFUSED_KEY = "The Idempotency-Key is not valid, or was used for another request."

_KEY = re.compile(r"[!-~]{1,128}")

M = TypeVar("M", bound=Message)
Accepted = tuple[M, int, dict[str, str]]
"""What a view answers: the body, the status, headers."""

# KEYS: the key. ARGV: entry, expiry.
_TAKE = """
local known = redis.call('GET', KEYS[1])
if not known then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return known
"""
# KEYS: the key. ARGV: the entry it was taken with, the one to put there ('' for none), expiry.
_SETTLE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
"""


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]  # null, which no header can be


class IdempotencyHeader(BaseModel):
    """The header that makes it safe to send a request again."""

    model_config = ConfigDict(populate_by_name=True)

    idempotency_key: Annotated[str | None, WithJsonSchema({"type": "string", "pattern": f"^{_KEY.pattern}$"})] = Field(
        None,
        alias="Idempotency-Key",
        json_schema_extra=_without_default,
        description="any text of 1 to 128 visible ASCII characters, such as a UUID. Within 24 hours the same request "
        "with the same key is answered as the first time and starts nothing new; another request with it is refused",
    )

    @property
    def key(self) -> str | None:
        """The key, if there is one.

        Raises:
            HTTPError: 422; it cannot be one.
        """
        value = self.idempotency_key
        # The standard puts it in quotes, and many clients do not.
        if value is not None and len(value) > 2 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if value is not None and not _KEY.fullmatch(value):
            raise _refused("It must have 1 to 128 visible ASCII characters.")
        return value


class Answer(Message):
    """What a submission was answered."""

    body: dict[str, Any]
    status: int
    headers: dict[str, str]


class _Entry(Message):
    """What Redis has under a key; without an answer while the request is being handled."""

    fingerprint: str
    claim: str
    answer: Answer | None = None


class Submission:
    """A request that carries a key.

    Args:
        client: Redis.
        key: The key.
        fingerprint: What tells this request from others.
    """

    def __init__(self, client: redis.Redis, key: str, fingerprint: str) -> None:
        self._redis = client
        # A key may be anything: only its hash becomes part of a name in Redis.
        self._name = redis_key("idempotency", hashlib.sha256(key.encode()).hexdigest())
        self._entry = _Entry(fingerprint=fingerprint, claim=secrets.token_hex(8))

    def take(self) -> Answer | None:
        """Takes the key, or gives the answer that the request with this key was given before.

        Raises:
            HTTPError: 409 while that request is being handled; 422 if it was another one.
        """
        taken = self._redis.register_script(_TAKE)
        data = cast("bytes | None", taken(keys=[self._name], args=[self._entry.model_dump_json(), CLAIM_SECONDS]))
        if data is None:
            return None
        known = _Entry.model_validate_json(data)
        if known == self._entry:
            return None  # taken by this very call, whose answer was lost on the way
        if known.fingerprint != self._entry.fingerprint:
            raise _refused("This key was used for another request. Use a new key for each new request.")
        if known.answer is None:
            raise HTTPError(409, f"{STILL_HANDLED} Try again shortly.", headers={"Retry-After": "1"})
        return known.answer

    def keep(self, answer: Answer) -> None:
        """Remembers the answer."""
        self._settle(self._entry.model_copy(update={"answer": answer}).model_dump_json())

    def release(self) -> None:
        """Gives the key free: the request failed, and may be sent again."""
        self._settle("")

    def _settle(self, entry: str) -> None:
        settled = self._redis.register_script(_SETTLE)
        settled(keys=[self._name], args=[self._entry.model_dump_json(), entry, KEEP_SECONDS])


def idempotent(view: Callable[..., Accepted[M]]) -> Callable[..., Accepted[M] | Response]:
    """Makes a view that submits something heed `Idempotency-Key`.

    It stands directly above the view, and `input(IdempotencyHeader, location="headers")` above it.
    """

    @wraps(view)
    def answer(*args: Any, headers_data: IdempotencyHeader, **kwargs: Any) -> Accepted[M] | Response:
        key, current = headers_data.key, services()
        if key is None:
            return view(*args, **kwargs)
        submission = Submission(current.client.redis, key, _fingerprint())
        with reported(current.settings):
            before = submission.take()
        if before is not None:
            return _repeated(before)
        try:
            body, status, headers = view(*args, **kwargs)
        except BaseException:
            with suppress(redis.RedisError, ServiceUnavailable), reported(current.settings):
                submission.release()  # else the key gets free by itself
            raise
        # It is submitted, whatever happens now.
        with suppress(redis.RedisError, ServiceUnavailable), reported(current.settings):
            submission.keep(Answer(body=body.model_dump(mode="json"), status=status, headers=headers))
        return body, status, headers

    return answer


def _repeated(answer: Answer) -> Response:
    response = jsonify(answer.body)
    response.status_code = answer.status
    response.headers.update(answer.headers)
    return response


def _fingerprint() -> str:
    """What tells this request from others: the method, the address and the body."""
    place = f"{request.method} {request.full_path}\n".encode()
    return hashlib.sha256(place + request.get_data()).hexdigest()


def _refused(message: str) -> HTTPError:
    return HTTPError(422, "Validation error", detail={"headers": {"Idempotency-Key": [message]}})
