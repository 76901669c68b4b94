"""The truth about adapters: what `adapters_store/README.md` describes, whatever it lies on.

Blocking. Inside one process, whoever changes the store does so from one thread at a time. Anybody
may look from any thread meanwhile: what is in memory is never changed in place, but replaced, so a
look sees the state before a change or the one after it. What this class has acknowledged survives a
crash at any later moment.

Other processes may change the same store: the journal decides the order, so a stale look costs a
second one and no truth, and `refresh` brings a name up to what others have made of it.
"""

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from service.adapters.backends.contents import Removed, Stored
from service.adapters.backends.store_backends import StoreBackends
from service.adapters.compiling import CompileOutcome
from service.adapters.durable import disk_full_is_store_full
from service.adapters.history import NameHistory
from service.adapters.journal import Journal
from service.adapters.known_names import KnownNames
from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.adapters.operations import Move, Operation, Point, Publish
from service.adapters.origin import Origin
from service.adapters.presence import check_there
from service.adapters.verdict import Verdict
from service.errors import StoreFull
from service.tenancy import Visibility

_NUM_READERS = 16
"""A store may be far away, so many small things are asked for at once."""


@dataclass(frozen=True, slots=True)
class Published:
    version: Publish
    is_created: bool
    """False when the content already was the current version."""


class AdapterStore(KnownNames):
    """The names that are known here, with their contents, and the way to change them."""

    def __init__(self, backends: StoreBackends, limits: AdapterLimits) -> None:
        super().__init__()
        self.logs = backends.logs
        self.forms = backends.forms
        """Compiled forms that replicas make for each other, if there are others."""
        self.temporary = backends.work
        self.shipped = backends.shipped
        """The folder into which people put adapters by hand, if there is one."""
        self.is_shared = backends.is_shared
        self._limits = limits
        self._hold = backends.hold
        self._originals = backends.originals
        self._journal = Journal(self.logs)
        self._manifests: Mapping[str, Manifest] = {}
        self._changes: dict[str, tuple[NameHistory, NameHistory]] = {}
        self._is_open = False

    def open(self, *, is_tidied: bool = True) -> None:
        """Take the store, replay the journal and remove what a crash left over, unless told not to;
        once is enough."""
        if self._is_open:
            return
        self._hold.open(is_tidied=is_tidied)
        try:
            with ThreadPoolExecutor(_NUM_READERS) as readers:
                names = self._journal.names()
                histories = readers.map(self._journal.replay, names)
                self._know(dict(zip(names, histories, strict=True)))
            self._manifests = self._read_manifests(self.kept_digests())
            if is_tidied and not self.is_shared:
                self.settle_removed(written_before=float("inf"))
                self.remove_unreferenced(self._originals.listing())
        except BaseException:
            self._hold.close()
            raise
        self._is_open = True

    def close(self) -> None:
        self._is_open = False
        self._hold.close()

    def refresh(self, name: str) -> bool:
        """Whether others have changed it since it was last read here."""
        return self._install({name: self._journal.replay(name, self.history(name))}) == [name]

    def reconcile(self) -> list[str]:
        """Bring every name up to what others have made of it; those that changed."""
        return self._install({**self._histories, **self._fresh_histories()})

    def last_change(self, name: str) -> tuple[NameHistory, NameHistory] | None:
        """What the last change that this process made of the name was decided on, and what it made
        of it; others may have changed more between two of them."""
        return self._changes.get(name)

    def manifest(self, digest: str) -> Manifest | None:
        return self._manifests.get(digest)

    def object_folder(self, digest: str) -> Path:
        """A local one with the original's files, fetched if need be; blocking.

        Raises `AdapterLoadFailed` or `StoreUnavailable`.
        """
        return self._originals.folder(digest)

    def text_folder(self, digest: str) -> Path:
        """The same of a folder that may have no more than its `TEXT_FILES`."""
        return self._originals.text_folder(digest)

    def has_object(self, digest: str) -> bool:
        """Asks the store, not this process's memory; blocking."""
        return self._originals.has(digest)

    def num_bytes(self) -> int:
        return sum(manifest.num_bytes for manifest in self._manifests.values())

    def check_room(self, num_bytes: int) -> None:
        budget = self._limits.store_budget_bytes
        if budget is not None and self.num_bytes() + num_bytes > budget:
            raise StoreFull(f"The adapter store is full: its budget is {budget} bytes.")

    def check_disk(self, num_bytes: int) -> None:
        """Raises `StoreFull`, or `StoreUnavailable` when nothing can be received."""
        check_there(self.temporary)
        if shutil.disk_usage(self.temporary).free < num_bytes:
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
        origin: Origin | None = None,
    ) -> Published:
        """`expires_at` and `visibility` as in a `Publish`. The files of `outcome` stay."""

        def decide(history: NameHistory) -> Publish | Point | Move | None:
            return history.operation_for(
                outcome.manifest.digest,
                created_at,
                outcome.warnings,
                outcome.unused_files,
                verdict,
                expires_at,
                visibility,
                origin,
            )

        operation = self._publish(name, outcome, decide)
        current = self._histories[name].current_version()
        assert current is not None
        return Published(current, isinstance(operation, Publish | Point))

    def publish_once(self, name: str, outcome: CompileOutcome, created_at: int) -> None:
        """Unless this content was ever a version of the name, as somebody else may see to now."""
        digest = outcome.manifest.digest

        def decide(history: NameHistory) -> Publish | Point | Move | None:
            if digest in history.digests:
                return None
            return history.operation_for(digest, created_at, outcome.warnings, outcome.unused_files)

        self._publish(name, outcome, decide)

    def change(self, name: str, decide: Callable[[NameHistory], Operation | None]) -> bool:
        """Record what `decide` makes of the name's state; False when that is nothing.

        It is asked again when another writer was first, and may raise: nothing has changed then.
        """
        self._look_first(name)
        while (operation := decide(self.history(name))) is not None:
            if self._append(name, operation):
                return True
        return False

    def keeps(self, digest: str, tenant: str) -> bool:
        """Whether a version of the tenant has this content, deleted or not."""
        return digest in self.kept_digests(tenant) and digest in self._manifests

    def stored_objects(self) -> Mapping[str, Stored]:
        """Everything that lies there, whether anything needs it or not."""
        return self._originals.listing()

    def remove_unreferenced(self, digests: Iterable[str]) -> list[str]:
        """Those that were removed, because no version has them, not even a deleted one."""
        doomed = sorted(set(digests) - self.kept_digests())
        removed = [self._originals.remove(digest) for digest in doomed]
        gone = self._settle(removed)
        self._forget_manifests(gone)
        return sorted(gone)

    def settle_removed(self, written_before: float) -> None:
        """Finish what a remover that died before then had begun (Unix seconds)."""
        left = self._originals.removed()
        self._settle([one for one in left if one.removed_at < written_before])

    def _publish(
        self,
        name: str,
        outcome: CompileOutcome,
        decide: Callable[[NameHistory], Publish | Point | Move | None],
    ) -> Publish | Point | Move | None:
        """What was recorded; None when there was nothing to record."""
        digest = outcome.manifest.digest
        with disk_full_is_store_full():
            self._look_first(name)
            while (operation := decide(self.history(name))) is not None:
                try:
                    self._add_object(name, outcome)
                    if self._append(name, operation):
                        break
                except (OSError, StoreFull):
                    self.remove_unreferenced([digest])
                    raise
            if digest in self.history(name).kept_digests() and not self._originals.has(digest):
                # Somebody who had not seen the record took it for garbage.
                self._originals.add(outcome)
        return operation

    def _settle(self, removed: Collection[Removed]) -> set[str]:
        """Put back what a name has got after all: its publisher looked before it went. Who gets it
        to a name from now on will find that it is gone. Returns what is gone for good."""
        fresh = {**self._histories, **self._fresh_histories()} if removed else {}
        gone = {one.digest for one in removed} - _kept(fresh.values())
        for one in removed:
            if one.digest in gone:
                one.forget()
            else:
                one.put_back()
        return gone

    def _look_first(self, name: str) -> None:
        """What others did may turn a refusal, or nothing to do, into something else."""
        if self.is_shared:
            self.refresh(name)

    def _add_object(self, name: str, outcome: CompileOutcome) -> None:
        manifest = outcome.manifest
        self.check_num_adapters(name)
        if manifest.digest not in self._manifests:
            self.check_room(manifest.num_bytes)
            self._originals.add(outcome)
            self._manifests = {**self._manifests, manifest.digest: manifest}

    def _fresh_histories(self) -> dict[str, NameHistory]:
        """Of the names that are not as they are known here, as the store has them now."""
        lengths = self._journal.lengths()
        names = [name for name, n in lengths.items() if self.history(name).num_operations != n]
        with ThreadPoolExecutor(_NUM_READERS) as readers:
            found = readers.map(lambda name: self._journal.replay(name, self.history(name)), names)
            return dict(zip(names, found, strict=True))

    def _install(self, histories: Mapping[str, NameHistory]) -> list[str]:
        """The names that are not as they were, sorted. Manifests first: whoever sees a version
        finds what it is."""
        missing = _kept(histories.values()) - self._manifests.keys()
        found = self._read_manifests(missing)
        changed = {
            name: one
            for name, one in histories.items()
            if one.num_operations != self.history(name).num_operations
            or not found.keys().isdisjoint(one.kept_digests())
        }
        lost = _kept(self.history(name) for name in changed) - _kept(changed.values())
        self._manifests = {**self._manifests, **found}
        self._know(changed)
        if lost:
            self._forget_manifests(lost - self.kept_digests())
        return sorted(changed)

    def _read_manifests(self, digests: Collection[str]) -> dict[str, Manifest]:
        if not digests:
            return {}
        with ThreadPoolExecutor(_NUM_READERS) as readers:
            found = zip(digests, readers.map(self._originals.manifest, digests), strict=True)
            return {digest: one for digest, one in found if one is not None}

    def _forget_manifests(self, digests: Collection[str]) -> None:
        if digests:
            left = {d: one for d, one in self._manifests.items() if d not in digests}
            self._manifests = left

    def _append(self, name: str, operation: Operation) -> bool:
        history = self.history(name)
        try:
            self._journal.append(name, history.num_operations, operation)
        except FileExistsError:
            self.refresh(name)
            return False
        changed = history.after(operation)
        self._know({name: changed})
        self._changes[name] = history, changed
        return True


def _kept(histories: Iterable[NameHistory]) -> set[str]:
    return set[str]().union(*(history.kept_digests() for history in histories))
