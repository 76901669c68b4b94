"""A temporary folder of this process inside a folder that several processes may share.

Each holds a lock on its own, so what belongs to a dead process can be told and removed.
"""

import fcntl
import os
import shutil
import uuid
from pathlib import Path

_LOCK = "lock"


class Scratch:
    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._folder = parent / uuid.uuid4().hex
        self._lock = -1

    def open(self) -> None:
        """Take a fresh folder and remove those of processes that are gone."""
        self._folder.mkdir(parents=True)
        self._lock = _open_locked(self._folder)
        for sibling in self._parent.iterdir():
            if sibling != self._folder:
                _remove_if_dead(sibling)

    def path(self, kind: str) -> Path:
        """A name that nothing has yet."""
        return self._folder / f"{kind}-{uuid.uuid4().hex}"


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_if_dead(folder: Path) -> None:
    try:
        lock = _open_locked(folder) if folder.is_dir() else -1
    except OSError:
        return
    remove(folder)
    if lock >= 0:
        os.close(lock)


def _open_locked(folder: Path) -> int:
    """Raises BlockingIOError while the owner lives."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock
