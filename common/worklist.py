"""Who works on what: the batches of index jobs, in Redis, each held by at most one living worker.

A planned batch waits in `todo`. A few of each job at a time are sent to the queue (`open`), so that several jobs
share the workers fairly and a message is all that the queue holds. A worker that takes a batch gets a *lease*: it
renews it while it works; when it has died, the lease runs out and the batch is sent again. Celery's own redelivery
may come too, minutes later: a batch that is finished, or held by a living worker, is not handed out.

The scan of a job is an item like its batches, called `scan`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import cast

import redis
from redis.client import Pipeline

from common.redis_client import key

SCAN_ITEM = "scan"
# A worker renews its leases every two seconds; one that missed so many is taken for dead.
LEASE_SECONDS = 20.0
# A message that has not come to any worker by then, although the queue is empty, was lost with Redis.
LOST_SECONDS = 20.0
# A queue that is never empty only makes the waiting longer.
LOST_IN_QUEUE_SECONDS = 600.0

# A value of `open` is "", while the message waits, or the worker's name; then "|" and a time.
# KEYS: job, todo, open. ARGV: window, now
_HAND_OUT = """
local v = redis.call('HMGET', KEYS[1], 'phase', 'control')
if v[2] ~= '' or (v[1] ~= 'scanning' and v[1] ~= 'running') then return {} end
local out = {}
local free = tonumber(ARGV[1]) - redis.call('HLEN', KEYS[3]) + redis.call('HEXISTS', KEYS[3], 'scan')
while #out < free do
  local item = redis.call('LPOP', KEYS[2])
  if not item then break end
  redis.call('HSET', KEYS[3], item, '|' .. ARGV[2])
  out[#out + 1] = item
end
return out
"""
# KEYS: job, todo, open, attempts. ARGV: item, worker, now, until
# Sent again because its answer was lost, it counts no second attempt.
_CLAIM = """
local held = redis.call('HGET', KEYS[3], ARGV[1])
if not held then return 0 end
local mine = ARGV[2] .. '|' .. ARGV[4]
if held == mine then return tonumber(redis.call('HGET', KEYS[4], ARGV[1])) end
local v = redis.call('HMGET', KEYS[1], 'phase', 'control')
if v[1] ~= 'scanning' and v[1] ~= 'running' then
  redis.call('HDEL', KEYS[3], ARGV[1])
  return 0
end
local worker, time = string.match(held, '^(.*)|(.*)$')
if worker ~= '' and worker ~= ARGV[2] and tonumber(time) > tonumber(ARGV[3]) then return 0 end
if v[2] == 'paused' and ARGV[1] ~= 'scan' then
  redis.call('HDEL', KEYS[3], ARGV[1])
  redis.call('LPUSH', KEYS[2], ARGV[1])
  return 0
end
redis.call('HSET', KEYS[3], ARGV[1], mine)
return redis.call('HINCRBY', KEYS[4], ARGV[1], 1)
"""
# KEYS: open, attempts. ARGV: item, worker, value, what is added to the attempts
_REPLACE_MINE = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held or string.match(held, '^(.*)|') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HINCRBY', KEYS[2], ARGV[1], ARGV[4])
return 1
"""
# KEYS: open. ARGV: now, time before which a waiting message counts as lost
_OVERDUE = """
local out = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local worker, time = string.match(all[i + 1], '^(.*)|(.*)$')
  local limit = ARGV[2]
  if worker ~= '' then limit = ARGV[1] end
  if tonumber(time) < tonumber(limit) then
    redis.call('HSET', KEYS[1], all[i], '|' .. ARGV[1])
    out[#out + 1] = all[i]
  end
end
return out
"""


def add_scan(pipe: Pipeline, job_id: str) -> None:
    """Makes the scan of a job an item that is about to be sent, as a part of a transaction."""
    pipe.hsetnx(_key(job_id, "open"), SCAN_ITEM, f"|{time.time()}")
    pipe.sadd(key("active"), job_id)


class WorkList:
    """The items of work of all jobs.

    Args:
        client: Redis.
        lease_seconds: How long a lease lasts without being renewed.
    """

    def __init__(self, client: redis.Redis, lease_seconds: float = LEASE_SECONDS) -> None:
        self._redis = client
        self._lease = lease_seconds
        self._hand_out = client.register_script(_HAND_OUT)
        self._claim = client.register_script(_CLAIM)
        self._replace_mine = client.register_script(_REPLACE_MINE)
        self._overdue = client.register_script(_OVERDUE)

    def open_scan(self, job_id: str) -> bool:
        """Makes the scan of a job an item that is about to be sent. Returns False if it is one already."""
        with self._redis.pipeline() as pipe:
            add_scan(pipe, job_id)
            return bool(pipe.execute()[0])

    def add(self, job_id: str, items: Iterable[str]) -> None:
        """Adds planned batches."""
        self._redis.rpush(_key(job_id, "todo"), *items)

    def hand_out(self, job_id: str, window: int) -> list[str]:
        """Takes batches that are to be sent to the queue now: not more than `window` of a job are under way."""
        keys = [key("job", job_id), _key(job_id, "todo"), _key(job_id, "open")]
        return _texts(self._hand_out(keys=keys, args=[window, time.time()]))

    def claim(self, job_id: str, item: str, worker: str) -> int:
        """Takes an item for a worker.

        Returns:
            How often it has been taken by now, or 0 if the worker must leave it: it is finished, held by a living
            worker, or its job is paused or has ended.
        """
        keys = [key("job", job_id), *(_key(job_id, part) for part in ("todo", "open", "attempts"))]
        now = time.time()
        return int(cast("int", self._claim(keys=keys, args=[item, worker, now, now + self._lease])))

    def renew(self, job_id: str, item: str, worker: str) -> None:
        """Renews a lease, if the worker still holds it."""
        self._replace(job_id, item, worker, f"{worker}|{time.time() + self._lease}")

    def release(self, job_id: str, item: str, worker: str) -> None:
        """Gives an item back that could not be done now; whoever gets its message next may take it.

        It does not count as an attempt: the worker has not died of it.
        """
        self._replace(job_id, item, worker, f"|{time.time()}", attempts=-1)

    def expire(self, job_id: str, item: str, worker: str) -> None:
        """Ends the lease of a worker that is known to be dead."""
        self._replace(job_id, item, worker, f"{worker}|0")

    def holders(self, job_id: str) -> dict[str, str]:
        """The items that are held, and the names of the workers that hold them."""
        values = cast("dict[bytes, bytes]", self._redis.hgetall(_key(job_id, "open")))
        held = {item.decode(): value.decode().rpartition("|")[0] for item, value in values.items()}
        return {item: worker for item, worker in held.items() if worker}

    def close(self, job_id: str, item: str) -> None:
        """Forgets an item that is done."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hdel(_key(job_id, "open"), item)
            pipe.hdel(_key(job_id, "attempts"), item)
            pipe.execute()

    def overdue(self, job_id: str, *, queue_is_empty: bool) -> list[str]:
        """The items whose messages must be sent again: their worker has died, or Redis has lost the message."""
        now = time.time()
        lost_before = now - (LOST_SECONDS if queue_is_empty else LOST_IN_QUEUE_SECONDS)
        return _texts(self._overdue(keys=[_key(job_id, "open")], args=[now, lost_before]))

    def clear_batches(self, job_id: str) -> None:
        """Forgets all batches of a job, for a new plan."""
        names = [name for name in _texts(self._redis.hkeys(_key(job_id, "open"))) if name != SCAN_ITEM]
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(_key(job_id, "todo"))
            if names:
                pipe.hdel(_key(job_id, "open"), *names)
                pipe.hdel(_key(job_id, "attempts"), *names)
            pipe.execute()

    def _replace(self, job_id: str, item: str, worker: str, value: str, attempts: int = 0) -> None:
        keys = [_key(job_id, "open"), _key(job_id, "attempts")]
        self._replace_mine(keys=keys, args=[item, worker, value, attempts])

    def active_jobs(self) -> list[str]:
        """The jobs that have not ended."""
        return _texts(self._redis.smembers(key("active")))

    def end(self, job_id: str) -> None:
        """Forgets a job that has ended."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.srem(key("active"), job_id)
            pipe.delete(*(_key(job_id, part) for part in ("todo", "open", "attempts")))
            pipe.execute()


def _key(job_id: str, part: str) -> str:
    return key("job", job_id, part)


def _texts(values: object) -> list[str]:
    return [value.decode() for value in cast("Iterable[bytes]", values)]
