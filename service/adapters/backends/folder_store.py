"""An adapter store in a folder, of one process or shared by the replicas of a fleet."""

import fcntl
import os
import shutil
import time
from pathlib import Path

from service.adapters.backends.form_files import FormFiles
from service.adapters.backends.original_files import OriginalFiles
from service.adapters.backends.record_files import RecordFiles
from service.adapters.backends.store_backends import StoreBackends
from service.adapters.backends.usage_files import UsageFiles
from service.adapters.scratch import Scratch
from service.errors import ConfigurationError

PRIVATE_FOLDER = ".repertoire"
_REMOVE_ATTEMPTS = 20
_LOCK_ATTEMPTS = 30


def folder_backends(root: Path, replica: str | None = None) -> StoreBackends:
    """With the id of a `replica` others may work on the store at the same time."""
    private = root / PRIVATE_FOLDER
    hold = FolderHold(root) if replica is None else SharedFolderHold(root, replica)
    forms = private / "forms"
    return StoreBackends(
        logs=RecordFiles(private, hold.work),
        originals=OriginalFiles(private / "objects", private / "removed", hold.work),
        usage=UsageFiles(private / "usage", hold.work, replica=replica),
        hold=hold,
        work=hold.work,
        # One process alone looks after what replicas have left, but begins no such folder.
        forms=FormFiles(forms, hold.work) if replica is not None or forms.is_dir() else None,
        shipped=root,
        is_shared=replica is not None,
    )


class FolderHold:
    """Of the only process: it keeps every other one out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._private = root / PRIVATE_FOLDER
        self._lock = -1
        self.work = self._private / "tmp"

    def open(self, *, is_tidied: bool) -> None:
        if self._is_open:
            return
        self._open(fcntl.LOCK_EX)
        if is_tidied:
            for leftover in self.work.iterdir():
                _remove(leftover)

    def close(self) -> None:
        if self._is_open:
            os.close(self._lock)
            self._lock = -1

    @property
    def _is_open(self) -> bool:
        return self._lock >= 0

    def _open(self, operation: int) -> None:
        try:
            for name in ("tmp", "journal", "objects", "removed"):
                (self._private / name).mkdir(parents=True, exist_ok=True)
            self._take_lock(operation)
        except OSError as error:
            self.close()
            message = f"The adapter store {self._root} cannot be written."
            raise ConfigurationError(message) from error

    def _take_lock(self, operation: int) -> None:
        """Patient: a child that a killed server was just starting holds the lock until it runs."""
        self._lock = os.open(self._private / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(self._lock, operation | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.1)
        self.close()
        raise ConfigurationError(f"The adapter store {self._root} is used by another process.")


class SharedFolderHold(FolderHold):
    """Of one replica: it keeps out whoever believes to be alone, and whoever has its id."""

    def __init__(self, root: Path, replica: str) -> None:
        super().__init__(root)
        self._replica = replica
        self._scratch = Scratch(self.work, replica)
        self.work = self._scratch.folder

    def open(self, *, is_tidied: bool) -> None:  # noqa: ARG002
        if self._is_open:
            return
        self._open(fcntl.LOCK_SH)
        try:
            self._scratch.open()
        except FileExistsError:
            self.close()
            message = f"A replica with the id {self._replica!r} runs already; see --replica-id."
            raise ConfigurationError(message) from None

    def close(self) -> None:
        self._scratch.close()
        super().close()


def _remove(path: Path) -> None:
    """Patient, because a child of a killed server may write for a moment longer."""
    for _ in range(_REMOVE_ATTEMPTS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if not path.exists():
            return
        time.sleep(0.1)
