"""How imports go, in Redis. `link.py` says which keys there are."""

import json
from collections.abc import Sequence

from service.adapters.backends.import_board import Notice, Record
from service.adapters.backends.redis.link import RedisLink

MAX_SHOWN = 100
"""Of a tenant, the latest."""

_TELL = """
-- KEYS import, alive, stop, imports of the tenant
-- ARGV record, id, when it began (s), kept ms, alive ms, how many are shown
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
redis.call('SET', KEYS[2], 1, 'PX', ARGV[5])
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[2])
-- Of older ones only those stay that run: whoever imports in a loop does not fill Redis.
local start = string.sub(KEYS[1], 1, -1 - #ARGV[2])
for _, id in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1 - ARGV[6])) do
  if redis.call('EXISTS', start .. id .. ':alive') == 0 then
    redis.call('DEL', start .. id, start .. id .. ':stop')
    redis.call('ZREM', KEYS[4], id)
  end
end
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return redis.call('EXISTS', KEYS[3])
"""
_GET = """
-- KEYS import, alive
return {redis.call('GET', KEYS[1]), redis.call('EXISTS', KEYS[2])}
"""
_LIST = """
-- KEYS imports of the tenant; ARGV what keys of imports begin with, how many are shown
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], -ARGV[2], -1)) do
  local record = redis.call('GET', ARGV[1] .. id)
  if record then
    found[#found + 1] = {record, redis.call('EXISTS', ARGV[1] .. id .. ':alive')}
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return found
"""
_STOP = """
-- KEYS stop; ARGV kept ms
return redis.call('SET', KEYS[1], 1, 'PX', ARGV[1])
"""


class RedisImportBoard:
    def __init__(self, link: RedisLink, kept_s: float) -> None:
        self._link = link
        self._kept_ms = int(kept_s * 1000)

    async def tell(self, import_id: str, tenant: str, record: Record) -> bool:
        keys = [*_keys(import_id), f"imports:{tenant}"]
        began, alive_ms = int(record["created_at"]), int(self._link.pace.alive_s * 1000)
        args: list[str | int] = [
            json.dumps(record), import_id, began, self._kept_ms, alive_ms, MAX_SHOWN
        ]  # fmt: skip
        return bool(await self._link.acall(_TELL, keys, args))

    async def get(self, import_id: str) -> Notice | None:
        record, is_alive = await self._link.acall(_GET, _keys(import_id)[:2], [])
        return None if record is None else Notice(json.loads(record), bool(is_alive))

    async def of_tenant(self, tenant: str) -> Sequence[Notice]:
        start = self._link.key("import:")
        found = await self._link.acall(_LIST, [f"imports:{tenant}"], [start, MAX_SHOWN])
        return [Notice(json.loads(record), bool(is_alive)) for record, is_alive in found]

    async def ask_to_stop(self, import_id: str) -> None:
        await self._link.acall(_STOP, _keys(import_id)[2:], [self._kept_ms])


def _keys(import_id: str) -> list[str]:
    key = f"import:{import_id}"
    return [key, f"{key}:alive", f"{key}:stop"]
