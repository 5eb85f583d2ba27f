"""What can be wrong with a Redis: brought about on a real one, and taken away again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from benchmarks.system import wait_until


@contextmanager
def full(client: redis.Redis, *, percent: int = 200) -> Iterator[None]:
    """Redis uses so much of the memory that it may; from 100 on it takes nothing."""
    client.config_set("maxmemory", client.info("memory")["used_memory"] * 100 // percent)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def unable_to_save(client: redis.Redis) -> Iterator[None]:
    """Redis has failed to save, and takes nothing until it can again (MISCONF)."""
    before = {name: client.config_get(name)[name] for name in ("dbfilename", "save")}
    obstacle = Path(client.config_get("dir")["dir"]) / "obstacle"
    (obstacle / "inside").mkdir(parents=True)
    client.config_set("save", "3600 1000000")
    client.config_set("dbfilename", obstacle.name)  # no file can be moved over a folder
    try:
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "saving has failed", 60)
        yield
    finally:
        client.config_set("dbfilename", before["dbfilename"])
        client.save()
        client.config_set("save", before["save"])
        (obstacle / "inside").rmdir()
        obstacle.rmdir()


@contextmanager
def replica(client: redis.Redis) -> Iterator[None]:
    """Redis is a replica that nobody may write to (READONLY); its primary is away, so it keeps what it has."""
    client.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@contextmanager
def stopped(client: redis.Redis) -> Iterator[None]:
    """Redis hangs: it takes connections and answers nothing."""
    pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
