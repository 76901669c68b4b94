"""Receives uploads onto the store's disk, no more of them at a time than it has room for."""

from collections.abc import Callable

from service.adapters.limits import AdapterLimits
from service.adapters.open_uploads import OpenUploads, Upload
from service.adapters.staging import Staging
from service.adapters.store import AdapterStore
from service.handlers.adapter_quotas import AdapterQuotas
from service.handlers.changes import Changes
from service.handlers.deletions import DeletionService
from service.tenancy import DEFAULT_TENANT


class Intake:
    def __init__(
        self,
        store: AdapterStore,
        limits: AdapterLimits,
        deletions: DeletionService,
        changes: Changes,
        quotas: AdapterQuotas,
    ) -> None:
        self._store = store
        self._limits = limits
        self._deletions = deletions
        self._changes = changes
        self._quotas = quotas
        self._uploads = OpenUploads(limits.max_open_uploads)
        self._by_staging: dict[Staging, Upload] = {}

    async def open(self, expected_bytes: int, tenant: str = DEFAULT_TENANT) -> Staging:
        """A place to receive an upload; the caller publishes it or discards it.

        Raises `TooManyUploads`, `StoreFull` or `StoreUnavailable`.
        """
        self._changes.check_allowed()
        upload = self._uploads.open(tenant, self._quotas.room(tenant))
        try:
            await self._deletions.make_room(
                self._uploads.num_bytes + expected_bytes, num_disk_bytes=expected_bytes
            )
            staging = await self._changes.in_thread(Staging, self._store.temporary, self._limits)
        except BaseException:
            self._uploads.close(upload)
            raise
        self._by_staging[staging] = upload
        return staging

    async def receive(self, staging: Staging, num_bytes: int, work: Callable[[], None]) -> None:
        """Run a bounded piece of disk work, which writes that much at most, off the event loop.

        Raises `QuotaExceeded` or `StoreFull` before it.
        """
        if self._uploads.grow(self._by_staging[staging], num_bytes):
            await self._deletions.make_room(
                self._uploads.num_bytes, num_disk_bytes=self._limits.disk_reserve_bytes
            )
        await self._changes.in_thread(work)

    async def rewind(self, staging: Staging) -> None:
        """What was received of the open file goes."""
        num_bytes = await self._changes.in_thread(staging.rewind)
        self._uploads.shrink(self._by_staging[staging], num_bytes)

    async def discard(self, staging: Staging) -> None:
        try:
            await self._changes.in_thread(staging.discard)
        finally:
            if upload := self._by_staging.pop(staging, None):
                self._uploads.close(upload)
