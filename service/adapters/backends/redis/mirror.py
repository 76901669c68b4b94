"""`LogMirror` in Redis: a list of each log, and a set of the logs that have one.

The identity of the store is part of every key, so records of another store are never taken for its
own. A list is only ever extended at its end by the record of that very number, or replaced as a
whole, so what it holds at a place was appended there; how much of the log that is, only the store
can say.
"""

import json
from collections.abc import Mapping, Sequence

from service.adapters.backends.records import Record
from service.adapters.backends.redis import scripts
from service.adapters.backends.redis.link import RedisLink

_BATCH = 256
"""Logs that are read in one round trip."""


class RedisMirror:
    def __init__(self, link: RedisLink, store_id: str) -> None:
        self._link = link
        self._prefix = f"mirror:{store_id}"

    def read_all(self, prefix: str) -> Mapping[str, Sequence[Record]]:
        logs = [log for log in self._link.members(self._logs) if log.startswith(f"{prefix}/")]
        found = {}
        for start in range(0, len(logs), _BATCH):
            batch = logs[start : start + _BATCH]
            lists = self._link.lists([self._list(log) for log in batch])
            for log, records in zip(batch, lists, strict=True):
                if records:
                    found[log.removeprefix(f"{prefix}/")] = [json.loads(one) for one in records]
        return found

    def append(self, log: str, number: int, record: Record) -> None:
        self._link.call(scripts.APPEND, self._keys(log), [log, number, json.dumps(record)])

    def put(self, log: str, records: Sequence[Record]) -> None:
        lines = [json.dumps(record) for record in records]
        self._link.bulk_call(scripts.PUT, self._keys(log), [log, *lines])

    def drop(self, log: str) -> None:
        self.put(log, ())

    @property
    def _logs(self) -> str:
        return f"{self._prefix}:logs"

    def _list(self, log: str) -> str:
        return f"{self._prefix}:log:{log}"

    def _keys(self, log: str) -> list[str]:
        return [self._list(log), self._logs]
