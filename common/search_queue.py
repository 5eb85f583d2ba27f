"""Which searches wait, and whether there is room for another one: counted in Redis, by its clock, in one step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import redis
from redis.client import Pipeline

from common import stage_metrics
from common.celery_app import QUERY
from common.errors import RedisFull, TooManySearches
from common.redis_client import FULL, key
from common.search_interest import WANTED_SECONDS

# Searches of the broker's queue that nobody waits for any more go when a worker comes to them, which takes it no time;
# but if none comes they pile up, so they have a bound, too: so many more than may wait.
MOST_LEFT_BEHIND = 1000
# Where the pace is not known yet.
_RETRY_SECONDS = 5
_LONGEST_RETRY_SECONDS = 60
_WAITING, _HELD, _PACE = (key("searches", name) for name in ("waiting", "held", "pace"))
_PACE_SECONDS = 600

# KEYS: waiting, held, pace, the broker's queue, metrics. ARGV: the search ('' to look only), its bytes, the most
# searches, the most bytes, seconds until a search is given up, the most in the broker's queue, what a key of interest
# begins with, what part of the memory may be filled, how long the pace is kept, how long the search is wanted.
#
# The pace is measured only over times in which searches waited all the while: else it would be that of the demand.
# Whoever fills an empty queue comes by here, and begins a new measurement.
_ADMIT = """
local time = redis.call('TIME')
local now, bytes = time[1] + time[2] / 1e6, tonumber(ARGV[2])
local memory = redis.call('INFO', 'memory')
local most = tonumber(string.match(memory, 'maxmemory:(%d+)'))
if most > 0 and tonumber(string.match(memory, 'used_memory:(%d+)')) + bytes > most * ARGV[8] then
  redis.pcall('HINCRBY', KEYS[5], 'ended:refused', 1)
  return {'memory', tostring(most), '0'}
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local waiting = redis.call('ZCARD', KEYS[1])
local since, before, rate, ended = unpack(redis.call('HMGET', KEYS[3], 'since', 'before', 'rate', 'ended'))
ended = tonumber(ended or 0)
if waiting == 0 or not since then
  redis.call('HSET', KEYS[3], 'since', string.format('%.6f', now), 'before', ended)
else
  local count, seconds = ended - before, now - since
  if count >= 10 and seconds >= 1 or seconds >= 10 then
    if count > 0 then
      rate = rate and (rate + count / seconds) / 2 or count / seconds
      redis.call('HSET', KEYS[3], 'rate', string.format('%.6f', rate))
    end
    redis.call('HSET', KEYS[3], 'since', string.format('%.6f', now), 'before', ended)
  end
end
redis.call('EXPIRE', KEYS[3], ARGV[9])
rate = tonumber(rate or 0)

local function wanted()
  local count = 0
  for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    count = count + redis.call('EXISTS', ARGV[7] .. id .. ':wanted')
  end
  return count
end

local held = 0
for _, entry in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  held = held + string.match(entry, ' (%d+)$')
end
local refused = false
if bytes > 0 and held > 0 and held + bytes > tonumber(ARGV[4]) then
  refused = 'bytes'
elseif redis.call('LLEN', KEYS[4]) >= tonumber(ARGV[6]) then
  refused = 'backlog'
elseif waiting >= tonumber(ARGV[3]) or (rate > 0 and waiting / rate > tonumber(ARGV[5])) then
  waiting = wanted()
  if waiting >= tonumber(ARGV[3]) then refused = 'count'
  elseif rate > 0 and waiting / rate > tonumber(ARGV[5]) then refused = 'time' end
end
if refused then
  redis.call('HINCRBY', KEYS[5], 'ended:refused', 1)
elseif ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now + ARGV[5], ARGV[1])
  redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[5]))
  redis.call('SET', ARGV[7] .. ARGV[1] .. ':wanted', 1, 'EX', ARGV[10])
  if bytes > 0 then
    redis.call('ZADD', KEYS[2], now + ARGV[5], ARGV[1] .. ' ' .. ARGV[2])
    redis.call('EXPIRE', KEYS[2], math.ceil(ARGV[5]))
  end
end
return {refused or '', tostring(waiting), tostring(rate)}
"""


@dataclass(frozen=True)
class QueueLimits:
    """How much may wait.

    Attributes:
        searches: Searches that no worker has taken yet.
        upload_bytes: Bytes of the uploads of all searches that are not answered yet. A single larger one may come
            when there are no others.
    """

    searches: int = 200
    upload_bytes: int = 256 * 2**20


class SearchQueue:
    """Keeps the number of searches that wait, and the bytes of their uploads, within limits.

    An entry expires with its search, so that whoever dies takes no room for long.

    Args:
        client: Redis.
        timeout_seconds: A search is given up after this time.
        limits: How much may wait.
    """

    def __init__(self, client: redis.Redis, *, timeout_seconds: int, limits: QueueLimits) -> None:
        self._timeout = timeout_seconds
        self._limits = limits
        self._admit = client.register_script(_ADMIT)

    def admit(self, search_id: str, upload_bytes: int = 0) -> None:
        """Takes a place for a search. With an empty id it only looks whether there is one.

        Raises:
            TooManySearches: There is none, or the search would be given up before its turn came.
            RedisFull: Redis has no memory for another picture.
        """
        limits = self._limits
        backlog = limits.searches + MOST_LEFT_BEHIND
        answer = cast(
            "list[bytes]",
            self._admit(
                keys=[_WAITING, _HELD, _PACE, QUERY, stage_metrics.KEY],
                args=[
                    *(search_id, upload_bytes, limits.searches, limits.upload_bytes, self._timeout, backlog),
                    *(key("search", ""), FULL, _PACE_SECONDS, WANTED_SECONDS),
                ],
            ),
        )
        reason, number, rate = answer[0].decode(), int(answer[1]), float(answer[2])
        if reason == "memory":
            raise RedisFull
        if reason:
            raise TooManySearches(self._told(reason, number, rate), retry_after(number, rate))

    def taken(self, pipe: Pipeline, search_id: str) -> None:
        """Frees the place of a search that a worker has taken, as part of a pipeline."""
        pipe.zrem(_WAITING, search_id)

    def ended(self, pipe: Pipeline, search_id: str, upload_bytes: int) -> None:
        """Counts a search that ended, as part of a pipeline; its uploads are gone."""
        pipe.zrem(_WAITING, search_id)
        pipe.zrem(_HELD, f"{search_id} {upload_bytes}")
        pipe.hincrby(_PACE, "ended", 1)
        pipe.expire(_PACE, _PACE_SECONDS)

    def _told(self, reason: str, waiting: int, rate: float) -> str:
        if reason == "bytes":
            return (
                "The pictures of the searches that wait fill the room that there is for them "
                f"({self._limits.upload_bytes:,} bytes, IMAGESEARCH_MAX_QUEUED_BYTES)."
            )
        if reason == "backlog":
            return "No query worker takes searches, and too many wait. Is one running and well?"
        if reason == "time":
            return (
                f"{waiting} searches wait, and about {rate:.3g} are answered in a second: "
                f"this one would not be answered within {self._timeout} s. More query workers answer more."
            )
        return (
            f"{waiting} searches wait already, and no more are taken (IMAGESEARCH_MAX_QUEUED_SEARCHES). "
            "More query workers answer more searches."
        )


def retry_after(waiting: int, rate: float) -> int:
    """Seconds after which there is room again: when a quarter of what waits is answered.

    Args:
        waiting: Searches that wait.
        rate: Searches answered in a second; 0 where that is not known.
    """
    if rate <= 0:
        return _RETRY_SECONDS
    return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(waiting / rate / 4)))
