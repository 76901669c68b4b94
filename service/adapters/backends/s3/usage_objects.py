"""`UsageStore` in a bucket: `usage/<day>/<process>.json`, which that process alone writes,
each time as a whole; a day is the sum of them. One thread at a time adds."""

from datetime import date

from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.failures import Damaged
from service.adapters.backends.usage import Rows, Usage, UsageKey, add_row
from service.adapters.backends.usage_rows import MAX_ROWS, damaged, decode_rows, encode_rows

_NUM_DAYS = 3
"""Kept in memory: today, and those before it of which something may be tried again."""


class UsageObjects:
    def __init__(self, bucket: Bucket, process: str, max_rows: int = MAX_ROWS) -> None:
        """`process` is one that has never written here before."""
        self._bucket = bucket
        self._process = process
        self._max_rows = max_rows
        self._totals: dict[date, Rows] = {}
        """By day, what this process knows that it has written: the bucket may have more,
        from a call that failed."""

    def add(self, day: date, rows: Rows) -> None:
        key = f"usage/{day.isoformat()}/{self._process}.json"
        if day not in self._totals:
            self._totals[day] = self._read(key, day)
            if len(self._totals) > _NUM_DAYS:
                del self._totals[next(one for one in self._totals if one != day)]
        total = dict(self._totals[day])
        for row, usage in rows.items():
            add_row(total, row, usage, self._max_rows)
        self._bucket.put(key, encode_rows(total))
        self._totals[day] = total

    def read(self, day: date) -> Rows:
        total: dict[UsageKey, Usage] = {}
        for one in self._bucket.listing(f"usage/{day.isoformat()}/"):
            for row, usage in self._read(one.key, day).items():
                total[row] = total.get(row, Usage()) + usage
        return total

    def _read(self, key: str, day: date) -> Rows:
        """Nothing when there is none."""
        try:
            data = self._bucket.get(key)
        except Damaged as error:
            raise damaged(day) from error
        return {} if data is None else decode_rows(data, day)
