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
from service.handlers.changes import Changes
from service.handlers.keys import KeyService
from service.handlers.tenants import AdapterOwners, TenantService


@dataclass(frozen=True, slots=True)
class Access:
    gate: Gate
    ring: KeyRing
    keys: KeyService
    tenants: TenantService
    book: TenantBook
    _changes: Changes

    @classmethod
    def over(
        cls,
        logs: RecordLogs,
        audit: AuditLog,
        operator_keys: Sequence[str],
        adapters: AdapterOwners,
        clock: Callable[[], float] = time.time,
    ) -> "Access":
        ring, book, changes = KeyRing(), TenantBook(), Changes(1)
        keys = KeyService(KeyLog(logs), ring, book, changes, audit, clock)
        tenants = TenantService(TenantLog(logs), book, keys, changes, audit, adapters, clock)
        return cls(Gate(operator_keys, ring), ring, keys, tenants, book, changes)

    async def start(self) -> None:
        """Before the first request: until then no managed key opens."""
        await self.tenants.start()
        await self.keys.start()

    async def close(self) -> None:
        await self._changes.close()
