"""`RecordLogs` in a bucket: `<log>/<number>.json`, created if absent and never written again."""

import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from service.adapters.backends.records import Record
from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.failures import Damaged
from service.errors import ConfigurationError

_RECORD = re.compile(r"(?P<log>.+)/(?P<number>[0-9]{10})\.json")
_NUM_READERS = 8
"""Of one log."""


class RecordObjects:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def names(self, prefix: str) -> list[str]:
        return sorted(self.lengths(prefix))

    def lengths(self, prefix: str) -> dict[str, int]:
        lengths: Counter[str] = Counter()
        for one in self._bucket.listing(f"{prefix}/"):
            if match := _RECORD.fullmatch(one.key.removeprefix(f"{prefix}/")):
                lengths[match["log"]] += 1
        return dict(lengths)

    def read(self, log: str, start: int = 0) -> list[Record]:
        after = _key(log, start - 1) if start else ""
        keys = [one.key for one in self._bucket.listing(f"{log}/", after) if _is_of(log, one.key)]
        if keys != [_key(log, number) for number in range(start, start + len(keys))]:
            raise ConfigurationError(f"The log {log!r} of the store has a gap.")
        if len(keys) <= 1:
            return [self._record(key) for key in keys]
        with ThreadPoolExecutor(min(len(keys), _NUM_READERS)) as readers:
            return list(readers.map(self._record, keys))

    def append(self, log: str, number: int, record: Record) -> None:
        self._bucket.create(_key(log, number), json.dumps(record).encode())

    def _record(self, key: str) -> Record:
        try:
            record = json.loads(self._bucket.get(key) or b"")
        except (ValueError, Damaged) as error:
            raise ConfigurationError(f"The record {key} of the store is damaged.") from error
        if not isinstance(record, dict):
            raise ConfigurationError(f"The record {key} of the store is damaged.")
        return record


def _key(log: str, number: int) -> str:
    return f"{log}/{number:010d}.json"


def _is_of(log: str, key: str) -> bool:
    match = _RECORD.fullmatch(key)
    return match is not None and match["log"] == log
