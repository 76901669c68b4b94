"""The journal of a store: one folder per name, one small file per operation, never rewritten.

`<folder>/<name>/<sequence>.json` is created only if absent, so the file system decides the order of
concurrent writers, and a record is either there whole or not at all.
"""

import json
import re
import uuid
from pathlib import Path

from service.adapters import durable
from service.adapters.history import (
    NameHistory,
    Operation,
    operation_from_json,
    operation_to_json,
)
from service.adapters.naming import is_valid_name
from service.errors import ConfigurationError

_RECORD = re.compile(r"([0-9]{10})\.json")


class Journal:
    def __init__(self, folder: Path, temporary: Path) -> None:
        self._folder = folder
        self._temporary = temporary

    def names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if is_valid_name(path.name))

    def replay(self, name: str) -> NameHistory:
        history = NameHistory()
        for path in self._records(name):
            history.apply(_read(path))
        return history

    def append(self, name: str, sequence: int, operation: Operation) -> None:
        """Raises FileExistsError when another writer was first; nothing has changed then."""
        folder = self._folder / name
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            durable.fsync_folder(self._folder)
        data = json.dumps(operation_to_json(operation)).encode()
        draft = self._temporary / f"journal-{uuid.uuid4().hex}"
        durable.write_file(draft, "journal.file", lambda file: file.write(data))
        durable.create_once(draft, folder / f"{sequence:010d}.json", "journal")

    def _records(self, name: str) -> list[Path]:
        folder = self._folder / name
        if not folder.is_dir():
            return []
        paths = sorted(path for path in folder.iterdir() if _RECORD.fullmatch(path.name))
        for expected, path in enumerate(paths):
            if int(path.stem) != expected:
                raise ConfigurationError(f"The journal of adapter {name!r} has a gap.")
        return paths


def _read(path: Path) -> Operation:
    try:
        return operation_from_json(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"The journal record {path} is damaged.") from error
