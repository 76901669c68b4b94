"""A temporary folder of this process inside a folder that several processes may share.

Each holds a lock on its own, so what belongs to a dead process can be told and removed.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "lock"


_PATIENCE_S = 3.0
"""A child that a killed process was just starting holds its locks until it runs."""
_PAUSE_S = 0.1


class Scratch:
    def __init__(self, parent: Path, name: str | None = None) -> None:
        """With a `name` nobody else who lives has it."""
        self._parent = parent
        self._lock = -1
        self.folder = parent / (name or uuid.uuid4().hex)

    def open(self) -> None:
        """Take a fresh folder and remove those of processes that are gone.

        Raises FileExistsError when a living process has the name.
        """
        self._parent.mkdir(parents=True, exist_ok=True)
        for _ in range(int(_PATIENCE_S / _PAUSE_S)):
            # Nobody sweeps between a folder's birth and its lock.
            with _locked(self._parent / _LOCK):
                self._sweep()
                if not self.folder.exists():
                    self.folder.mkdir()
                    self._lock = _open_locked(self.folder)
                    return
            time.sleep(_PAUSE_S)
        raise FileExistsError(f"{self.folder.name} is taken")

    def close(self) -> None:
        if self._lock >= 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def path(self, kind: str) -> Path:
        """A name that nothing has yet."""
        return self.folder / f"{kind}-{uuid.uuid4().hex}"

    def _sweep(self) -> None:
        for sibling in self._parent.iterdir():
            if sibling.name != _LOCK:
                _remove_if_dead(sibling)


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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
