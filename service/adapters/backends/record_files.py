"""`RecordLogs` in a folder: `<folder>/<log>/<number>.json`, created once, never rewritten.

The file system decides the order of concurrent writers, and a record is either there whole or not
at all.
"""

import json
import re
import uuid
from pathlib import Path

from service.adapters import durable
from service.adapters.backends.records import Record
from service.adapters.presence import check_there, store_in
from service.errors import ConfigurationError

_RECORD = re.compile(r"([0-9]{10})\.json")


class RecordFiles:
    """Everything raises `StoreUnavailable` when the folder is not there."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        """`folder` is never made here; `temporary` lies on the same disk."""
        self._folder = folder
        self._temporary = temporary

    def names(self, prefix: str) -> list[str]:
        root = self._folder / prefix
        with store_in(self._folder):
            paths = root.rglob("*.json") if self._has(root) else ()
            folders = {path.parent for path in paths if _RECORD.fullmatch(path.name)}
        return sorted(folder.relative_to(root).as_posix() for folder in folders)

    def lengths(self, prefix: str) -> dict[str, int]:
        with store_in(self._folder):
            return {log: self._length(f"{prefix}/{log}") for log in self.names(prefix)}

    def read(self, log: str, start: int = 0) -> list[Record]:
        folder = self._folder / log
        with store_in(self._folder):
            if not self._has(folder):
                return []
            paths = _records_in(folder)
            if not _is_whole(paths):
                # One look at a folder that grows may show a name and not the one before it.
                paths = _records_in(folder)
            if not _is_whole(paths):
                raise ConfigurationError(f"The log {log!r} of the store has a gap.")
            return [_read(path) for path in paths[start:]]

    def append(self, log: str, number: int, record: Record) -> None:
        folder = self._folder / log
        data = json.dumps(record).encode()
        draft = self._temporary / f"record-{uuid.uuid4().hex}"
        with durable.disk_full_is_store_full():
            with store_in(self._folder):
                if not self._has(folder):
                    self._make(folder)
                durable.write_file(draft, "journal.file", lambda file: file.write(data))
            # From here on it may be there, whatever goes wrong.
            durable.create_once(draft, folder / f"{number:010d}.json", "journal")

    def _has(self, folder: Path) -> bool:
        if folder.is_dir():
            return True
        check_there(self._folder)
        return False

    def _length(self, log: str) -> int:
        names = (path.name for path in (self._folder / log).iterdir())
        return sum(_RECORD.fullmatch(name) is not None for name in names)

    def _make(self, folder: Path) -> None:
        """With its parents, each made durable in the folder above it."""
        missing = [one for one in (folder, *folder.parents) if not one.is_dir()]
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            durable.fsync_folder(one.parent)


def _records_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _RECORD.fullmatch(path.name))


def _is_whole(paths: list[Path]) -> bool:
    return all(int(path.stem) == number for number, path in enumerate(paths))


def _read(path: Path) -> Record:
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigurationError(f"The record {path} of the store is damaged.") from error
    if not isinstance(record, dict):
        raise ConfigurationError(f"The record {path} of the store is damaged.")
    return record
