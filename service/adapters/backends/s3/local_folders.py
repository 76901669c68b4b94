"""Copies of originals on this machine: `<folder>/<name>/`, complete in one rename, within a budget.

Several processes may share the folder. Whoever is given a copy reads it soon, so the one that was
used last leaves last, and none leaves within minutes of its use, whatever the budget.
"""

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service.errors import AdapterLoadFailed

_KEPT_S = 600.0
"""Longer than anybody reads a copy that he was given."""


class LocalFolders:
    """Blocking and thread-safe."""

    def __init__(self, folder: Path, temporary: Path, budget_bytes: int) -> None:
        """Both on one disk; `temporary` is this process's own."""
        self._folder = folder
        self._temporary = temporary
        self._budget = budget_bytes
        self._lock = threading.Lock()
        self._flights: dict[str, threading.Lock] = {}

    def known(self, name: str) -> Path | None:
        path = self._folder / name
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def get(self, name: str, fetch: Callable[[Path], None]) -> Path:
        """The copy, which `fetch` writes into an empty folder if there is none.

        Raises `AdapterLoadFailed`, and what `fetch` raises.
        """
        with self._flight(name):
            known = self.known(name)
            return known if known is not None else self._fetched(name, fetch)

    def _flight(self, name: str) -> threading.Lock:
        with self._lock:
            return self._flights.setdefault(name, threading.Lock())

    def _fetched(self, name: str, fetch: Callable[[Path], None]) -> Path:
        draft, path = self._temporary / f"original-{uuid.uuid4().hex}", self._folder / name
        try:
            draft.mkdir()
            fetch(draft)
            self._folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError, OSError):  # Another process has put it there.
                draft.rename(path)
            if self.known(name) is None:
                raise AdapterLoadFailed("The adapter's files cannot be kept on this machine.")
        except OSError as error:
            message = "The adapter's files cannot be written on this machine."
            raise AdapterLoadFailed(message) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._evict()
        return path

    def _evict(self) -> None:
        with self._lock, suppress(FileNotFoundError):
            sizes = {path: _num_bytes(path) for path in self._folder.iterdir()}
            excess = sum(sizes.values()) - self._budget
            for path in sorted(sizes, key=_used_at):
                if excess <= 0 or _used_at(path) > time.time() - _KEPT_S:
                    return
                doomed = self._temporary / f"evicted-{uuid.uuid4().hex}"
                path.rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)
                excess -= sizes[path]


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _used_at(folder: Path) -> float:
    return folder.stat().st_mtime
