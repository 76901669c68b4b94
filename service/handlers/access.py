"""Tenants, keys and the door that they open, put together over one set of logs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.access.gate import Gate
from service.access.key_log import KeyLog
from service.access.keys import KeyRing
from service.access.tenants import TenantBook, TenantLog
from service.adapters.backends.records import RecordLogs
from service.handlers.audit import AuditLog
from service.handlers.changes import Changes, always
from service.handlers.keys import KeyService
from service.handlers.tenants import AdapterOwners, TenantService
from service.tenancy import UNLIMITED, TenantLimits


@dataclass(frozen=True, slots=True)
class Access:
    gate: Gate
    ring: KeyRing
    keys: KeyService
    tenants: TenantService
    book: TenantBook
    default_limits: TenantLimits
    _changes: Changes

    @classmethod
    def over(
        cls,
        logs: RecordLogs,
        audit: AuditLog,
        operator_keys: Sequence[str],
        adapters: AdapterOwners,
        default_limits: TenantLimits = UNLIMITED,
        clock: Callable[[], float] = time.time,
        may_change: Callable[[], bool] = always,
    ) -> "Access":
        """`default_limits` are those of tenants that have none of their own."""
        ring, book, changes = KeyRing(), TenantBook(), Changes(1, may_change)
        keys = KeyService(KeyLog(logs), ring, book, changes, audit, clock)
        tenants = TenantService(TenantLog(logs), book, keys, changes, audit, adapters, clock)
        gate = Gate(operator_keys, ring, lambda tenant: book.get(tenant) is not None)
        return cls(gate, ring, keys, tenants, book, default_limits, changes)

    def limits_of(self, tenant: str) -> TenantLimits:
        """Own limits are all that hold: none of the defaults is mixed in."""
        return self.book.limits_of(tenant) or self.default_limits

    async def start(self) -> None:
        """Before the first request: until then no managed key opens."""
        await self.tenants.start()
        await self.keys.start()

    async def close(self) -> None:
        await self._changes.close()
