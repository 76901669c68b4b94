"""Use cases of what is deleted: delete a name or a version, bring it back, free what is over."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog

from service.adapters.collector import Collector, Freed
from service.adapters.deletions import (
    delete_for,
    delete_version_for,
    recoverable,
    restore_for,
)
from service.adapters.history import NameHistory
from service.adapters.moves import check_expected, check_revision
from service.adapters.naming import Selector
from service.adapters.operations import Delete, DeleteVersion, Restore
from service.adapters.registry import AdapterRegistry
from service.adapters.store import AdapterStore
from service.errors import NameConflict, RepertoireError, StoreFull, StoreUnavailable
from service.handlers.adapter_quotas import AdapterQuotas
from service.handlers.adapter_views import AdapterView
from service.handlers.aliases import Expected
from service.handlers.audit import Action
from service.handlers.background import Background
from service.handlers.changes import Changes
from service.handlers.directory import Directory
from service.handlers.name_audit import NameAudit
from service.tenancy import bare_name

COLLECT_INTERVAL_S = 3600.0

log = structlog.get_logger(__name__)


class DeletionService:
    def __init__(
        self,
        store: AdapterStore,
        collector: Collector,
        registry: AdapterRegistry,
        directory: Directory,
        changes: Changes,
        audit: NameAudit,
        quotas: AdapterQuotas,
        *,
        retention_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._collector = collector
        self._registry = registry
        self._directory = directory
        self._changes = changes
        self._audit = audit
        self._quotas = quotas
        self._retention_s = retention_s
        self._clock = clock
        self._background = Background()

    async def start(self) -> None:
        """Free what is over now, and every hour from now on."""
        if self._changes.may_change():
            with suppress(
                StoreUnavailable
            ):  # No reason not to start: an hour later it is tried again.
                await self.collect()
        self._background.start(self._sweep())

    async def close(self) -> None:
        await self._background.stop()

    async def delete(self, name: str, expected: Expected = None) -> int:
        """The name with all that it has; the revision that this makes.

        Requests in flight finish. Raises `AdapterNotFound`, `NameConflict` or `PreconditionFailed`.
        """
        created_at = int(self._clock())

        def decide(history: NameHistory) -> Delete:
            if not history.versions and name in self._directory.broken:
                raise NameConflict(
                    f"{bare_name(name)!r} is a broken folder in the store; remove it there."
                )
            check_expected(name, history, expected)
            return delete_for(name, history, created_at)

        return await self._changes.change(self._delete(Action.ADAPTER_DELETE, name, decide))

    async def delete_expired(self, name: str, now: float) -> bool:
        """False when the name has come to live longer, or is deleted already."""
        if not self._store.history(name).is_expired(now):
            return False

        def decide(history: NameHistory) -> Delete | None:
            return delete_for(name, history, int(now)) if history.is_expired(now) else None

        await self._changes.change(self._delete(Action.ADAPTER_DELETE, name, decide))
        return True

    async def delete_version(self, wanted: Selector, expected: Expected = None) -> tuple[int, int]:
        """Its number, and the revision that this makes.

        Raises `VersionInUse` while a pointer leads to it, and what `delete` raises.
        """
        created_at = int(self._clock())
        name, number = wanted.name, 0

        def decide(history: NameHistory) -> DeleteVersion:
            nonlocal number
            check_expected(name, history, expected)
            delete = delete_version_for(name, history, wanted, created_at)
            number = delete.number
            return delete

        revision = await self._changes.change(self._delete(Action.VERSION_DELETE, name, decide))
        return number, revision

    async def restore(
        self, name: str, number: int | None = None, expected: Expected = None
    ) -> AdapterView:
        """One version, or without a number the whole name as it was when it was deleted.

        Raises `AdapterNotFound`, `NameConflict`, `PreconditionFailed`, `StoreFull` or
        `QuotaExceeded`.
        """
        now = self._clock()

        def decide(history: NameHistory) -> Restore:
            check_revision(name, history, expected)
            alive = recoverable(history, now, self._retention_s)
            restore = restore_for(name, history, number, alive, self._has_content, int(now))
            self._store.check_num_adapters(name)
            self._quotas.check_name(name)
            return restore

        return await self._changes.change(self._restore(name, decide))

    async def collect(self, *, is_dry_run: bool = False) -> Freed:
        """Free what nothing points to and whose grace is over, or only say what that would be."""
        run = self._changes.finish if is_dry_run else self._changes.change
        return await run(self._collect(is_dry_run=is_dry_run))

    async def make_room(self, num_bytes: int, num_disk_bytes: int = 0) -> None:
        """In the store's budget and on its disk. Frees what is over, not what can be restored.

        Raises `StoreFull` when that is not enough.
        """
        try:
            self._check_room(num_bytes, num_disk_bytes)
        except StoreFull:
            if not self._collector.has_expired(self._clock()):
                raise
            await self.collect()
            self._check_room(num_bytes, num_disk_bytes)

    def _check_room(self, num_bytes: int, num_disk_bytes: int) -> None:
        self._store.check_room(num_bytes)
        self._store.check_disk(num_disk_bytes)

    async def _delete(
        self,
        action: Action,
        name: str,
        decide: Callable[[NameHistory], Delete | DeleteVersion | None],
    ) -> int:
        async with self._changes.lock, self._audit.of(action, name):
            before = {version.digest for version in self._store.history(name).versions.values()}
            await self._changes.in_thread(self._store.change, name, decide)
            self._directory.register(name)
            revision = self._store.history(name).num_operations
            gone = sorted(before - self._store.live_digests())
        if self._collector.frees_at_once:
            self._changes.clean_up(self._collect_when_drained(gone))
        return revision

    async def _restore(self, name: str, decide: Callable[[NameHistory], Restore]) -> AdapterView:
        async with self._changes.lock, self._audit.of(Action.ADAPTER_RESTORE, name):
            await self._changes.in_thread(self._store.change, name, decide)
            self._directory.register(name)
            return self._directory.view(name)

    async def _collect_when_drained(self, digests: Iterable[str]) -> None:
        for digest in digests:
            await self._registry.drain(digest)
        await self._collect()

    async def _collect(self, *, is_dry_run: bool = False) -> Freed:
        async with self._changes.lock:
            # No request can begin to use what is deleted, so this stays true for long enough.
            in_use = self._registry.digests_in_use()
            now = self._clock()
            freed = await self._changes.in_thread(
                lambda: self._collector.collect(now, in_use, is_dry_run=is_dry_run)
            )
            if not (freed.is_nothing or is_dry_run):
                await self._audit.collected(freed)
        if not (freed.is_nothing or is_dry_run):
            log.info(
                "collected",
                versions=len(freed.versions),
                objects=freed.num_objects,
                bytes=freed.object_bytes + freed.form_bytes,
            )
        return freed

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(COLLECT_INTERVAL_S)
            await self._changes.allowed()
            try:
                await self.collect()
            except StoreUnavailable:
                continue
            except (RepertoireError, OSError):
                # The next hour tries again; nothing depends on this one.
                log.exception("collect_failed")

    def _has_content(self, digest: str) -> bool:
        return self._store.manifest(digest) is not None
