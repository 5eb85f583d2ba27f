"""A real Redis that is full, may not write, hangs, or has gone: what the client makes of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from common import redis_client
from common.errors import RedisFull, RedisRefuses, RedisSilent, RedisUnavailable
from common.redis_client import check, connect, key, reported
from common.settings import Settings
from tests.redis_troubles import full, replica, stopped, unable_to_save


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    with connect(settings) as client:
        yield client


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Waits for no answer for long."""
    monkeypatch.setattr(redis_client, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(redis_client, "_silences", {})


# --- what is checked -----------------------------------------------------------------------------------------------


def test_a_redis_that_is_well_takes_something(client: redis.Redis) -> None:
    check(client)
    assert 0 < client.ttl(key("probe")) <= 60


@pytest.mark.parametrize("percent", [95, 200])
def test_a_full_redis_answers_a_ping_and_fails_the_check(client: redis.Redis, settings: Settings, percent: int) -> None:
    with full(client, percent=percent):
        assert client.ping()
        with pytest.raises(RedisFull, match="maxmemory"), reported(settings):
            check(client)
    check(client)


def test_a_replica_fails_the_check(client: redis.Redis, settings: Settings) -> None:
    with replica(client), pytest.raises(RedisRefuses, match="must name the primary"), reported(settings):
        check(client)
    check(client)


def test_a_redis_that_cannot_save_fails_the_check(client: redis.Redis, settings: Settings) -> None:
    with unable_to_save(client), pytest.raises(RedisRefuses, match="make room on the disk"), reported(settings):
        check(client)
    check(client)


# --- what hangs ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_a_redis_that_hangs_is_reported_as_silent(settings: Settings, client: redis.Redis) -> None:
    with stopped(client), pytest.raises(RedisSilent, match="does not answer at"), reported(settings):
        connect(settings).ping()


@pytest.mark.usefixtures("impatient")
def test_of_many_callers_one_at_a_time_waits_for_a_redis_that_hangs(
    settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    ping = redis.Redis.ping

    def counted(self: redis.Redis) -> object:
        waited.append(1)
        return ping(self)

    def ask(_: int) -> bool:
        try:
            with reported(settings):
                return bool(impatient_client.get("nothing") is None)
        except RedisUnavailable:
            return False

    impatient_client = connect(settings)
    with ThreadPoolExecutor(16) as pool:
        with stopped(client):
            assert not any(pool.map(ask, range(16)))  # all at the same time: nobody knew
            monkeypatch.setattr(redis.Redis, "ping", counted)
            monkeypatch.setattr(redis_client, "_ASK_AGAIN_SECONDS", 60.0)
            assert not any(pool.map(ask, range(100)))
            assert len(waited) == 1
        assert not ask(0)  # it is not asked again so soon
        monkeypatch.setattr(redis_client, "_ASK_AGAIN_SECONDS", 0.0)
        redis_client._silences[settings.redis_url].begin()
        assert all(pool.map(ask, [0]))
        assert all(pool.map(ask, range(100)))
    assert len(waited) == 2


@pytest.mark.usefixtures("impatient")
def test_dear_work_waits_until_redis_answers_again(settings: Settings, client: redis.Redis) -> None:
    patient, hasty = connect(settings, patient=True), connect(settings)
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(patient.incr("counter")))
    with stopped(client):
        asking.start()
        for _ in range(3):
            with pytest.raises(redis.TimeoutError):
                hasty.get("nothing")
    asking.join(30)
    assert len(answers) == 1


# --- what has gone -------------------------------------------------------------------------------------------------


def test_a_connection_that_has_died_is_made_again(settings: Settings, client: redis.Redis) -> None:
    other = connect(settings)
    with other.pipeline() as pipe:
        pipe.ping()
        pipe.execute()
        client.client_kill_filter(_type="normal", skipme=True)
        pipe.ping()
        assert pipe.execute() == [True]
    client.client_kill_filter(_type="normal", skipme=True)
    assert other.ping()


def test_a_redis_that_is_away_is_reported_with_its_address_but_not_its_password(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": "redis://:secret@127.0.0.1:1/0"})
    with pytest.raises(RedisUnavailable, match=r"redis://127\.0\.0\.1:1/0") as caught, reported(away):
        connect(away).ping()
    assert "secret" not in str(caught.value)
