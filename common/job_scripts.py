"""The Lua scripts that change the state of an index job: each one in a single step, whatever else happens."""

from __future__ import annotations

# Ends the job when the scan is complete and every file is accounted for.
_SETTLE = """
local function settle(job, now)
  local v = redis.call('HMGET', job, 'phase', 'scanned', 'total', 'done', 'failed')
  if v[1] == 'running' and v[2] == '1' and tonumber(v[4]) + tonumber(v[5]) >= tonumber(v[3]) then
    redis.call('HSET', job, 'phase', 'done', 'control', '', 'finished_at', now)
    return 1
  end
  return 0
end
"""
# KEYS: job, partial, samples. A script, because Redis refuses transactions while it has no memory, also of what only
# reads.
READ = "return {redis.call('HGETALL', KEYS[1]), redis.call('HVALS', KEYS[2]), redis.call('LRANGE', KEYS[3], 0, -1)}"
# KEYS: job, errors. ARGV: plan or "", a text of this call alone, length of the counters, counter, value, counter,
# value…, path, error…
# Sent again because its answer was lost, it adds nothing.
ADD = """
local v = redis.call('HMGET', KEYS[1], 'plan', 'phase', 'added')
if v[3] == ARGV[2] then return 1 end
if ARGV[1] ~= '' and (v[1] ~= ARGV[1] or v[2] ~= 'scanning') then return 0 end
redis.call('HSET', KEYS[1], 'added', ARGV[2])
local first = 4 + tonumber(ARGV[3])
for i = 4, first - 1, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = first, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1
"""
# KEYS: job, batches, partial, errors. ARGV: plan, batch, now, done, failed, duplicates, path, error, path, error…
FINISH_BATCH = (
    _SETTLE
    + """
if redis.call('HGET', KEYS[1], 'plan') ~= ARGV[1] then return -1 end
redis.call('HDEL', KEYS[3], ARGV[2])
if redis.call('SADD', KEYS[2], ARGV[2]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'done', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'failed', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'duplicates', ARGV[6])
for i = 7, #ARGV, 2 do redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end
return 1 + settle(KEYS[1], ARGV[3])
"""
)
# KEYS: job, batches, partial, todo. ARGV: plan, batch, part, part…
# In one step with the mark that the batch is through: whoever else works on it then changes nothing any more.
SPLIT_BATCH = """
if redis.call('HGET', KEYS[1], 'plan') ~= ARGV[1] then return 0 end
if redis.call('SADD', KEYS[2], ARGV[2]) == 0 then return 0 end
redis.call('HDEL', KEYS[3], ARGV[2])
return redis.call('RPUSH', KEYS[4], unpack(ARGV, 3))
"""
# KEYS: job, and what is deleted. ARGV: counter, counter… Returns 0 if the job is unknown, -1 if it has ended.
START_PLAN = """
local phase = redis.call('HGET', KEYS[1], 'phase')
if not phase then return 0 end
if phase ~= 'scanning' and phase ~= 'running' then return -1 end
redis.call('HSET', KEYS[1], 'phase', 'scanning', 'scanned', '0')
for i = 1, #ARGV do redis.call('HSET', KEYS[1], ARGV[i], '0') end
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
return redis.call('HINCRBY', KEYS[1], 'plan', 1)
"""
# KEYS: job. ARGV: proposed
SEQUENCE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
redis.call('HSETNX', KEYS[1], 'sequence', ARGV[1])
return redis.call('HGET', KEYS[1], 'sequence')
"""
# KEYS: job. ARGV: reason, now
FAIL = """
local phase = redis.call('HGET', KEYS[1], 'phase')
if phase ~= 'scanning' and phase ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'phase', 'failed', 'control', '', 'error', ARGV[1], 'finished_at', ARGV[2])
return 1
"""
# KEYS: job. ARGV: plan, now
FINISH_SCAN = (
    _SETTLE
    + """
if redis.call('HGET', KEYS[1], 'plan') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'phase') ~= 'scanning' then return 0 end
redis.call('HSET', KEYS[1], 'phase', 'running', 'scanned', '1')
return settle(KEYS[1], ARGV[2])
"""
)
# KEYS: job. ARGV: action, now. Returns the state that does not allow it, or an empty text.
CONTROL = """
local v = redis.call('HMGET', KEYS[1], 'phase', 'control')
if not v[1] then return false end
if v[1] ~= 'scanning' and v[1] ~= 'running' then return v[1] end
if ARGV[1] == 'resumed' then
  if v[2] ~= 'paused' then return v[1] end
  redis.call('HSET', KEYS[1], 'control', '')
elseif ARGV[1] == 'paused' then
  redis.call('HSET', KEYS[1], 'control', 'paused')
else
  redis.call('HSET', KEYS[1], 'phase', 'cancelled', 'control', '', 'finished_at', ARGV[2])
end
return ''
"""
