"""The truth about adapters: a directory whose layout `adapters_store/README.md` describes.

Blocking. One process owns a store at a time; inside it, whoever changes the store does so from one
thread at a time. Anybody may look from any thread meanwhile: what is in memory is never changed in
place, but replaced, so a look sees the state before a change or the one after it. What this class
has acknowledged survives a crash at any later moment.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.adapters.backends.record_files import RecordFiles
from service.adapters.backends.records import RecordLogs
from service.adapters.compiling import CompileOutcome
from service.adapters.durable import disk_full_is_store_full
from service.adapters.history import Move, NameHistory, Operation, Publish
from service.adapters.journal import Journal
from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.adapters.objects import ObjectFolder
from service.adapters.verdict import Verdict
from service.errors import ConfigurationError, StoreFull
from service.tenancy import Visibility, tenant_of

PRIVATE_FOLDER = ".repertoire"
_REMOVE_ATTEMPTS = 20
_LOCK_ATTEMPTS = 30


@dataclass(frozen=True, slots=True)
class Published:
    version: Publish
    is_created: bool
    """False when the content already was the current version."""


class AdapterStore:
    def __init__(self, root: Path, limits: AdapterLimits) -> None:
        self.root = root
        self.private = root / PRIVATE_FOLDER
        self.temporary = self.private / "tmp"
        self._limits = limits
        self.logs: RecordLogs = RecordFiles(self.private, self.temporary)
        self._journal = Journal(self.logs)
        self._objects = ObjectFolder(self.private / "objects", self.temporary)
        self._histories: Mapping[str, NameHistory] = {}
        self._manifests: Mapping[str, Manifest] = {}
        self._lock: int | None = None

    def open(self, *, is_tidied: bool = True) -> None:
        """Take the store, replay the journal and remove what a crash left over, unless told not to;
        once is enough."""
        if self._lock is not None:
            return
        try:
            for folder in (self.temporary, self.private / "journal", self.private / "objects"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"The adapter store {self.root} cannot be written.") from error
        self._take_lock()
        self._histories = {name: self._journal.replay(name) for name in self._journal.names()}
        found = {digest: self._objects.manifest(digest) for digest in self._objects.digests()}
        self._manifests = {digest: one for digest, one in found.items() if one is not None}
        if is_tidied:
            self._tidy()

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def refresh(self, name: str) -> NameHistory:
        """As the store has the name by now: another replica may have changed it."""
        history = self._journal.replay(name)
        unknown = history.digests - self._manifests.keys()
        found = {digest: self._objects.manifest(digest) for digest in unknown}
        new = {digest: one for digest, one in found.items() if one is not None}
        self._manifests = {**self._manifests, **new}
        self._histories = {**self._histories, name: history}
        return history

    def names(self) -> list[str]:
        """Names that can be served, sorted."""
        return sorted(name for name, history in self._histories.items() if history.versions)

    def names_with_deleted(self) -> list[str]:
        """Names that have deleted versions or are deleted as a whole, sorted."""
        return sorted(name for name, history in self._histories.items() if history.deleted)

    def history(self, name: str) -> NameHistory:
        return self._histories.get(name) or NameHistory()

    def owns(self, tenant: str, *, with_deleted: bool) -> bool:
        """Whether it has adapters, or such as were deleted and can come back."""
        return any(h.versions or (with_deleted and h.deleted) for _, h in self._of(tenant))

    def manifest(self, digest: str) -> Manifest | None:
        return self._manifests.get(digest)

    def object_folder(self, digest: str) -> Path:
        return self._objects.path(digest)

    def num_bytes(self) -> int:
        return sum(manifest.num_bytes for manifest in self._manifests.values())

    def check_room(self, num_bytes: int) -> None:
        budget = self._limits.store_budget_bytes
        if budget is not None and self.num_bytes() + num_bytes > budget:
            raise StoreFull(f"The adapter store is full: its budget is {budget} bytes.")

    def check_disk(self, num_bytes: int) -> None:
        if shutil.disk_usage(self.root).free < num_bytes:
            raise StoreFull("The disk of the adapter store is full.")

    def check_num_adapters(self, name: str) -> None:
        """Raises `StoreFull` when `name` would be one adapter too many."""
        is_new_name = not self.history(name).versions
        if is_new_name and len(self.names()) >= self._limits.max_adapters:
            raise StoreFull(f"The store holds {self._limits.max_adapters} adapters, its limit.")

    def publish(
        self,
        name: str,
        outcome: CompileOutcome,
        created_at: int,
        verdict: Verdict | None = None,
        expires_at: int | None = None,
        visibility: Visibility | None = None,
    ) -> Published:
        """`expires_at` and `visibility` as in a `Publish`."""
        manifest = outcome.manifest
        with disk_full_is_store_full():
            while True:
                history = self.history(name)
                operation = history.operation_for(
                    manifest.digest,
                    created_at,
                    outcome.warnings,
                    outcome.unused_files,
                    verdict,
                    expires_at,
                    visibility,
                )
                if operation is None:
                    current = history.current_version()
                    assert current is not None
                    return Published(current, is_created=False)
                try:
                    self._add_object(name, outcome)
                    is_first = self._append(name, operation)
                except (OSError, StoreFull):
                    self.remove_unreferenced([manifest.digest])
                    raise
                if is_first:
                    current = self._histories[name].current_version()
                    assert current is not None
                    return Published(current, is_created=not isinstance(operation, Move))

    def change(self, name: str, decide: Callable[[NameHistory], Operation | None]) -> bool:
        """Record what `decide` makes of the name's state; False when that is nothing.

        It is asked again when another writer was first, and may raise: nothing has changed then.
        """
        while (operation := decide(self.history(name))) is not None:
            if self._append(name, operation):
                return True
        return False

    def is_live(self, digest: str, tenant: str | None = None) -> bool:
        """Whether some version has this content that is not deleted; of one tenant, or of any."""
        return digest in self.live_digests(tenant)

    def live_digests(self, tenant: str | None = None) -> set[str]:
        return {
            version.digest
            for _, history in self._of(tenant)
            for version in history.versions.values()
        }

    def keeps(self, digest: str, tenant: str) -> bool:
        """Whether a version of the tenant has this content, deleted or not."""
        return digest in self.kept_digests(tenant) and digest in self._manifests

    def num_adapters(self, tenant: str) -> int:
        """Names of the tenant that lead to a version."""
        return sum(bool(history.versions) for _, history in self._of(tenant))

    def kept_digests(
        self, tenant: str | None = None, given_up: Mapping[str, Collection[int]] | None = None
    ) -> set[str]:
        """Content of versions, deleted ones included but for the numbers `given_up` by name; of one
        tenant, or of all."""
        kept = self.live_digests(tenant)
        for name, history in self._of(tenant):
            gone = (given_up or {}).get(name, ())
            kept |= {
                one.version.digest for number, one in history.deleted.items() if number not in gone
            }
        return kept

    def known_digests(self) -> set[str]:
        """Of everything that was ever a version here."""
        return set[str]().union(*(history.digests for history in self._histories.values()))

    def stored_digests(self) -> list[str]:
        """Of every object that lies here, whether anything needs it or not."""
        return self._objects.digests()

    def object_bytes(self, digest: str) -> int:
        manifest = self._manifests.get(digest)
        return self._objects.num_bytes(digest) if manifest is None else manifest.num_bytes

    def remove_unreferenced(self, digests: Iterable[str]) -> list[str]:
        """Those that were removed, because no version has them, not even a deleted one."""
        removed = sorted(set(digests) - self.kept_digests())
        gone = set()
        try:
            for digest in removed:
                self._objects.remove(digest)
                gone.add(digest)
        finally:
            left = {digest: one for digest, one in self._manifests.items() if digest not in gone}
            self._manifests = left
        return removed

    def _add_object(self, name: str, outcome: CompileOutcome) -> None:
        manifest = outcome.manifest
        if manifest.digest not in self._manifests:
            self.check_room(manifest.num_bytes)
            if self._objects.path(manifest.digest).exists():
                # Its summary could not be read, so nothing vouches for it.
                self._objects.remove(manifest.digest)
            self._objects.add(outcome, self.temporary / f"object-{uuid.uuid4().hex}")
            self._manifests = {**self._manifests, manifest.digest: manifest}
        self.check_num_adapters(name)

    def _of(self, tenant: str | None) -> Iterator[tuple[str, NameHistory]]:
        """Of every name of one tenant, or of all."""
        for name, history in self._histories.items():
            if tenant is None or tenant_of(name) == tenant:
                yield name, history

    def _append(self, name: str, operation: Operation) -> bool:
        history = self.history(name)
        try:
            self._journal.append(name, history.num_operations, operation)
        except FileExistsError:
            self._histories = {**self._histories, name: self._journal.replay(name)}
            return False
        self._histories = {**self._histories, name: history.after(operation)}
        return True

    def _tidy(self) -> None:
        for leftover in self.temporary.iterdir():
            _remove(leftover)
        self.remove_unreferenced(self._objects.digests())

    def _take_lock(self) -> None:
        """Patient: a child that a killed server was just starting holds the lock until it runs."""
        self._lock = os.open(self.private / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                time.sleep(0.1)
        self.close()
        raise ConfigurationError(f"The adapter store {self.root} is used by another process.")


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
