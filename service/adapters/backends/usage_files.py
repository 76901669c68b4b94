"""`UsageStore` in a folder: `<folder>/<day>.json`, replaced as a whole whenever something is added.

Who is one of several replicas has a file of its own, `<folder>/<day>.<replica>.json`: no file has
two writers, and a day is the sum of its files. One thread at a time adds.
"""

import uuid
from datetime import date
from pathlib import Path

from service.adapters import durable
from service.adapters.backends.usage import Rows, Usage, UsageKey, add_row
from service.adapters.backends.usage_rows import MAX_ROWS, decode_rows, encode_rows
from service.adapters.presence import check_there


class UsageFiles:
    def __init__(
        self,
        folder: Path,
        temporary: Path,
        max_rows: int = MAX_ROWS,
        replica: str | None = None,
    ) -> None:
        """`temporary` lies on the same disk. Everything raises `StoreUnavailable` when the folder
        around `folder` is not there."""
        self._folder = folder
        self._suffix = ".json" if replica is None else f".{replica}.json"
        self._temporary = temporary
        self._max_rows = max_rows

    def add(self, day: date, rows: Rows) -> None:
        check_there(self._folder.parent)
        path = self._folder / f"{day.isoformat()}{self._suffix}"
        total = dict(_read(path, day))
        for key, usage in rows.items():
            add_row(total, key, usage, self._max_rows)
        if not self._folder.is_dir():
            self._folder.mkdir(exist_ok=True)
            durable.fsync_folder(self._folder.parent)
        data = encode_rows(total)
        draft = self._temporary / f"usage-{uuid.uuid4().hex}"
        durable.write_file(draft, "usage.file", lambda file: file.write(data))
        durable.rename(draft, path, "usage")

    def read(self, day: date) -> Rows:
        check_there(self._folder.parent)
        total: dict[UsageKey, Usage] = {}
        for path in self._folder.glob(f"{day.isoformat()}.*json"):
            for key, usage in _read(path, day).items():
                total[key] = total.get(key, Usage()) + usage
        return total


def _read(path: Path, day: date) -> Rows:
    """Of one writer; nothing when it has not written on that day."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    return decode_rows(data, day)
