"""What Redis runs in one step, in Lua. `link.py` says which keys there are.

Every script may run twice with the same arguments and comes to the same as once, because an answer
that is lost is asked for again. `now` is the time of Redis, or in tests the one that is given.
"""

NOW = """
local function now_ms(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

BEAT = (
    NOW
    + """
-- KEYS replicas, about, epoch; ARGV now, replica, ttl ms, about, an epoch if there is none
local now = now_ms(ARGV[1])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('HDEL', KEYS[2], gone)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('PEXPIRE', KEYS[1], 10 * ARGV[3])
redis.call('PEXPIRE', KEYS[2], 10 * ARGV[3])
redis.call('SETNX', KEYS[3], ARGV[5])
return {redis.call('GET', KEYS[3]), redis.call('ZCARD', KEYS[1])}
"""
)

LEAVE = """
-- KEYS replicas, about; ARGV replica
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
"""

APPEND = """
-- KEYS log, logs; ARGV name, number, record
-- A gap is never mirrored; whatever contradicts the record goes.
local length, number = redis.call('LLEN', KEYS[1]), tonumber(ARGV[2])
if length == number then
  redis.call('RPUSH', KEYS[1], ARGV[3])
  redis.call('SADD', KEYS[2], ARGV[1])
elseif length > number and redis.call('LINDEX', KEYS[1], number) ~= ARGV[3] then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[1])
end
return 1
"""

PUT = """
-- KEYS log, logs; ARGV name, records...
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
for i = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
if #ARGV > 1 then redis.call('SADD', KEYS[2], ARGV[1]) end
return 1
"""
