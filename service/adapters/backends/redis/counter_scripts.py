"""`TenantMeter` and `SlidingWindow` in Lua, for one tenant and all replicas.

Each process has entries of its own, so that it can say at any time "this is all I have granted"
(`REPORT`) and mean it: what Redis had of it before is replaced, whatever got lost or was counted
twice on the way. A report has a name, and every other script names the report that it builds on; it
does nothing when Redis has another one, or none.

The hash of a tenant, where an entry is `<process>/<first ms>` and a kind `requests` or `tokens`:

    <kind>              what all entries of the kind add up to
    <kind>:<entry>      what was taken within that grain
    <kind>@<process>    first ms of its newest entry
    running@<process>   how many of its requests run; those of the dead do not count
    report@<process>    name of the report that its entries build on
"""

from service.adapters.backends.redis.scripts import NOW
from service.adapters.backends.sliding_window import GRAIN_MS, WINDOW_MS

_KEEP_MS = 3 * WINDOW_MS
"""Longer than what any entry matters and than the pause between two reports of what runs."""

_METER = (
    NOW
    + f"local WINDOW, GRAIN, KEEP = {WINDOW_MS}, {GRAIN_MS}, {_KEEP_MS}"
    + """
-- KEYS replicas, meter, requests, tokens, running; ARGV now, replica, report, ...
local now, replica, report = now_ms(ARGV[1]), ARGV[2], ARGV[3]
local replicas, meter, running = KEYS[1], KEYS[2], KEYS[5]
local windows = {requests = KEYS[3], tokens = KEYS[4]}

local function number(field) return tonumber(redis.call('HGET', meter, field) or 0) end

local function drop(kind, entry)
  redis.call('HINCRBY', meter, kind, 0 - number(kind .. ':' .. entry))
  redis.call('HDEL', meter, kind .. ':' .. entry)
  redis.call('ZREM', windows[kind], entry)
end

local function expire(kind)
  local key = windows[kind]
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now - WINDOW)) do
    drop(kind, entry)
  end
  if redis.call('ZCARD', key) == 0 then redis.call('HSET', meter, kind, 0) end
end

local function wait_ms(kind, amount, limit)
  if limit == '' then return 0 end
  local excess = number(kind) + amount - limit
  if excess <= 0 then return 0 end
  local entries = redis.call('ZRANGE', windows[kind], 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    excess = excess - number(kind .. ':' .. entries[i])
    if excess <= 0 then return entries[i + 1] + WINDOW - now end
  end
  return WINDOW
end

local function add(kind, first, last, amount)
  local key, entry = windows[kind], string.format('%s/%.0f', replica, first)
  if last > tonumber(redis.call('ZSCORE', key, entry) or 0) then
    redis.call('ZADD', key, last, entry)
  end
  redis.call('HINCRBY', meter, kind .. ':' .. entry, amount)
  redis.call('HINCRBY', meter, kind, amount)
  redis.call('HSET', meter, kind .. '@' .. replica, string.format('%.0f', first))
end

local function take(kind, amount)
  local first = number(kind .. '@' .. replica)
  if now - first >= GRAIN then first = now end
  add(kind, first, now, amount)
end

-- The first ms of an entry of this replica, nil for one of another
local function first_of(entry)
  if string.sub(entry, 1, #replica + 1) ~= replica .. '/' then return nil end
  return tonumber(string.sub(entry, #replica + 2))
end

local function give_back(kind, amount, taken)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', windows[kind], taken, '+inf')) do
    local first = first_of(entry)
    if first and first <= taken then
      redis.call('HINCRBY', meter, kind .. ':' .. entry, 0 - amount)
      redis.call('HINCRBY', meter, kind, 0 - amount)
      return
    end
  end
end

-- What remains, and in how many ms all of it is free
local function state(kind, limit)
  if limit == '' then return 0, 0 end
  local i, reset = 0, 0
  while true do
    local newest = redis.call('ZREVRANGE', windows[kind], i, i, 'WITHSCORES')
    if #newest == 0 then break end
    if number(kind .. ':' .. newest[1]) ~= 0 then
      reset = newest[2] + WINDOW - now
      break
    end
    i = i + 1
  end
  return math.max(0, limit - number(kind)), reset
end

local function num_running()
  local total = number('running@' .. replica)
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', replicas, '(' .. now, '+inf')) do
    if other ~= replica then total = total + number('running@' .. other) end
  end
  return total
end

local function run(ticket, began, amount, taken)
  redis.call('HSET', running, ticket, string.format('%.0f %.0f %.0f', began, amount, taken))
end

local function found(ticket)
  local text = redis.call('HGET', running, ticket)
  if not text then return nil end
  local began, amount, taken = string.match(text, '(%S+) (%S+) (%S+)')
  return tonumber(began), tonumber(amount), tonumber(taken)
end

local function keep()
  redis.call('HSET', meter, 'running@' .. replica, redis.call('HLEN', running))
  for i = 2, 5 do redis.call('PEXPIRE', KEYS[i], KEEP) end
end

local function ruling(waits, is_busy, limit_requests, limit_tokens)
  local requests, requests_reset = state('requests', limit_requests)
  local tokens, tokens_reset = state('tokens', limit_tokens)
  keep()
  return {waits[1], waits[2], is_busy and 1 or 0, requests, requests_reset, tokens, tokens_reset}
end
"""
)

_BUILDS_ON = """
if redis.call('HGET', meter, 'report@' .. replica) ~= report then return false end
expire('requests')
expire('tokens')
"""

CLAIM = (
    _METER
    + _BUILDS_ON
    + """
-- ARGV ..., ticket, tokens, limit of requests, of tokens, at once; '' = none
local ticket, amount, at_once = ARGV[4], tonumber(ARGV[5]), ARGV[8]
if found(ticket) then return ruling({0, 0}, false, ARGV[6], ARGV[7]) end
local waits = {wait_ms('requests', 1, ARGV[6]), wait_ms('tokens', amount, ARGV[7])}
local is_busy = at_once ~= '' and num_running() >= tonumber(at_once)
if waits[1] == 0 and waits[2] == 0 and not is_busy then
  take('requests', 1)
  take('tokens', amount)
  run(ticket, now, amount, now)
end
return ruling(waits, is_busy, ARGV[6], ARGV[7])
"""
)

RESERVE = (
    _METER
    + _BUILDS_ON
    + """
-- ARGV ..., ticket, tokens, limit of requests, of tokens
local ticket, amount = ARGV[4], tonumber(ARGV[5])
local began, had, taken = found(ticket)
if not began then return false end
give_back('tokens', had, taken)
local wait = wait_ms('tokens', amount, ARGV[7])
if wait > 0 then amount = 0 end
take('tokens', amount)
run(ticket, began, amount, now)
return ruling({0, wait}, false, ARGV[6], ARGV[7])
"""
)

SETTLE = (
    _METER
    + _BUILDS_ON
    + """
-- ARGV ..., ticket, tokens that were used; '' = it was never begun
local began, had, taken = found(ARGV[4])
if began then
  redis.call('HDEL', running, ARGV[4])
  give_back('tokens', had - (tonumber(ARGV[5]) or 0), taken)
  if ARGV[5] == '' then give_back('requests', 1, began) end
end
keep()
return {}
"""
)

REPORT = (
    _METER
    + """
-- ARGV ..., JSON: of each kind [age of first, age of last, amount]; running: [ticket, age, tokens,
-- age of the tokens]; ages in ms. Without a meter nobody's entries have amounts any more. Of dead
-- replicas only what they have granted stays, until it is a minute old.
local told = cjson.decode(ARGV[4])
if redis.call('EXISTS', meter) == 0 then redis.call('DEL', KEYS[3], KEYS[4]) end
redis.call('DEL', running)
for kind, key in pairs(windows) do
  for _, entry in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if first_of(entry) then drop(kind, entry) end
  end
  redis.call('HDEL', meter, kind .. '@' .. replica)
  for _, entry in ipairs(told[kind]) do add(kind, now - entry[1], now - entry[2], entry[3]) end
end
for _, one in ipairs(told.running) do run(one[1], now - one[2], one[3], now - one[4]) end
redis.call('HSET', meter, 'report@' .. replica, report)
for _, field in ipairs(redis.call('HKEYS', meter)) do
  local other = string.match(field, '^report@(.*)$')
  if other and other ~= replica and not redis.call('ZSCORE', replicas, other) then
    redis.call('HDEL', meter, field, 'running@' .. other, 'requests@' .. other, 'tokens@' .. other)
  end
end
keep()
return {}
"""
)
