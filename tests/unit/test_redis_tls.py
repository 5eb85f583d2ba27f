"""Redis with a password over TLS, for redis-py and for Celery. A thread does the encryption for the real server."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from common.celery_app import BULK, SCAN, make_celery
from common.redis_client import connect
from common.settings import Settings

CERTIFICATE = Path(__file__).parents[1] / "data" / "localhost-test.pem"
OTHER_CERTIFICATE = Path(__file__).parents[1] / "data" / "pictures-test.pem"
PASSWORD = "s3cret"


def pump(source: socket.socket, target: socket.socket) -> None:
    """Hands on what comes, until one side ends."""
    with suppress(OSError, ValueError), source, target:
        while data := source.recv(1 << 16):
            target.sendall(data)


@pytest.fixture
def tls_url(redis_url: str) -> Iterator[str]:
    """The address of a Redis with a password behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    listener = socket.create_server(("", 0))

    def serve() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = listener.accept()
                with suppress(OSError):  # a client that does not trust us
                    encrypted = context.wrap_socket(client, server_side=True)
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(redis_url.removeprefix("unix://"))
                    for pair in ((encrypted, server), (server, encrypted)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("requirepass", PASSWORD)
        try:
            yield f"rediss://:{PASSWORD}@localhost:{listener.getsockname()[1]}/0"
        finally:
            client.config_set("requirepass", "")
            listener.close()


def test_redis_is_reached_over_tls(tls_url: str) -> None:
    settings = Settings(redis_url=tls_url, redis_ca=CERTIFICATE)
    client = connect(settings)
    assert client.ping()
    make_celery(settings).send_task(SCAN, args=["a"])
    assert client.llen(BULK) == 1


@pytest.mark.parametrize("authority", [None, OTHER_CERTIFICATE], ids=["unknown", "another"])
def test_a_certificate_that_nobody_trusts_is_refused(tls_url: str, authority: Path | None) -> None:
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(Settings(redis_url=tls_url, redis_ca=authority)).ping()


def test_celery_checks_the_certificate_too(tls_url: str) -> None:
    with pytest.raises(OperationalError):
        make_celery(Settings(redis_url=tls_url)).send_task(SCAN, args=["a"], retry=False)


def test_the_name_of_the_host_is_checked(tls_url: str) -> None:
    settings = Settings(redis_url=tls_url.replace("localhost", "127.0.0.2"), redis_ca=CERTIFICATE)
    with pytest.raises(redis.ConnectionError):
        connect(settings).ping()
