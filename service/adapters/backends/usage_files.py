"""`UsageStore` in a folder: `<folder>/<day>.json`, replaced as a whole whenever something is added.

One process owns the folder at a time, and one thread at a time adds.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import astuple
from datetime import date
from pathlib import Path
from typing import Any

from service.adapters import durable
from service.adapters.backends.usage import Rows, Usage, UsageKey, add_row
from service.errors import ConfigurationError

MAX_ROWS = 10_000
"""Of one day; what comes later is counted under its tenant alone."""


class UsageFiles:
    def __init__(self, folder: Path, temporary: Path, max_rows: int = MAX_ROWS) -> None:
        """`temporary` lies on the same disk."""
        self._folder = folder
        self._temporary = temporary
        self._max_rows = max_rows

    def add(self, day: date, rows: Rows) -> None:
        total = dict(self.read(day))
        for key, usage in rows.items():
            add_row(total, key, usage, self._max_rows)
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            durable.fsync_folder(self._folder.parent)
        data = json.dumps({"rows": [[*astuple(k), *astuple(u)] for k, u in total.items()]}).encode()
        draft = self._temporary / f"usage-{uuid.uuid4().hex}"
        durable.write_file(draft, "usage.file", lambda file: file.write(data))
        durable.rename(draft, self._path(day), "usage")

    def read(self, day: date) -> Rows:
        try:
            return dict(_parse(json.loads(self._path(day).read_bytes())))
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"The usage of {day} in the store is damaged.") from error

    def _path(self, day: date) -> Path:
        return self._folder / f"{day.isoformat()}.json"


def _parse(document: Any) -> Iterator[tuple[UsageKey, Usage]]:
    for tenant, adapter, version, *numbers in document["rows"]:
        yield UsageKey(str(tenant), str(adapter), str(version)), Usage(*map(int, numbers))
