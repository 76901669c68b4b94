"""Use cases of tenants, for operators: create, look at, change the limits, delete."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Protocol

from service.access.tenants import FOLDER, Tenant, TenantBook, TenantLog, TenantState
from service.errors import (
    InvalidRequest,
    NameConflict,
    PermissionDenied,
    StoreFull,
    TenantNotFound,
)
from service.handlers.audit import Action, AuditLog
from service.handlers.changes import Changes
from service.handlers.keys import KeyService
from service.tenancy import DEFAULT_TENANT, TENANT_RULE, Principal, TenantLimits, is_valid_tenant

MAX_TENANTS = 10_000


class AdapterOwners(Protocol):
    def owns(self, tenant: str, *, with_deleted: bool) -> bool:
        """Whether it has adapters, or such as were deleted and can come back."""


class TenantService:
    folder = FOLDER

    def __init__(
        self,
        log: TenantLog,
        book: TenantBook,
        keys: KeyService,
        changes: Changes,
        audit: AuditLog,
        adapters: AdapterOwners,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._book = book
        self._keys = keys
        self._changes = changes
        self._audit = audit
        self._adapters = adapters
        self._clock = clock

    async def start(self) -> None:
        for name, state in (await self._changes.in_thread(self._log.load)).items():
            self._book.put(name, state)

    def lengths(self) -> Mapping[str, int]:
        return self._book.lengths

    async def follow(self, name: str, length: int) -> None:
        if not is_valid_tenant(name):
            raise ValueError(f"{name!r} is no tenant's name")
        async with self._changes.lock:
            if self._book.lengths.get(name, 0) < length:
                self._book.put(name, await self._changes.in_thread(self._log.read, name))

    def get(self, name: str) -> Tenant:
        """Raises `TenantNotFound`."""
        tenant = self._book.get(name)
        if tenant is None:
            raise TenantNotFound(name)
        return tenant

    def acting_for(self, principal: Principal, tenant: str | None) -> str:
        """Whose the caller's uploads are. Raises `PermissionDenied` or, to operators only,
        `TenantNotFound`."""
        if tenant is None or tenant == principal.tenant:
            return principal.tenant
        if not principal.is_operator:
            raise PermissionDenied("Uploads for other tenants need an operator's key.")
        return self.get(tenant).name

    def list(self, limit: int, after: str | None) -> tuple[Sequence[Tenant], bool]:
        """A page in the order of the names, and whether more follow."""
        rest = [name for name in self._book.names() if after is None or name > after]
        return [self.get(name) for name in rest[:limit]], len(rest) > limit

    async def create(self, name: str, limits: TenantLimits | None = None) -> Tenant:
        if not is_valid_tenant(name):
            raise InvalidRequest(f"{name[:200]!r} is no tenant's name: {TENANT_RULE}.", "name")
        return await self._changes.change(self._create(name, limits))

    async def set_limits(self, name: str, limits: TenantLimits | None) -> Tenant:
        """None brings the server's defaults back."""
        return await self._changes.change(self._set_limits(name, limits))

    async def delete(self, name: str) -> None:
        """Its keys are revoked. Raises `NameConflict` while it owns adapters."""
        await self._changes.change(self._delete(name))

    async def _create(self, name: str, limits: TenantLimits | None) -> Tenant:
        tenant = Tenant(name, int(self._clock()), limits)

        def decide(state: TenantState) -> Tenant:
            if state.tenant is not None:
                raise _is_taken(name)
            if state.length:
                raise NameConflict(
                    f"A tenant {name!r} was deleted. Names are never given out again, because what"
                    " others share with it would become the next one's; choose another name."
                )
            return tenant

        async with self._changes.lock:
            if self._book.get(name) is not None:
                raise _is_taken(name)
            if self._adapters.owns(name, with_deleted=True):
                raise NameConflict(f"Adapters of a former tenant {name!r} are still kept.")
            if len(self._book.names()) >= MAX_TENANTS:
                raise StoreFull(f"There are {MAX_TENANTS} tenants, the limit.")
            state = await self._changes.in_thread(self._log.put, name, decide)
            await self._audit.record(Action.TENANT_CREATE, name, name, None, _shown(tenant))
            self._book.put(name, state)
            return tenant

    async def _set_limits(self, name: str, limits: TenantLimits | None) -> Tenant:
        def decide(state: TenantState) -> Tenant:
            # The operator's own has no record until its limits are set.
            known = self._book.get(name) if name == DEFAULT_TENANT else state.tenant
            if known is None:
                raise TenantNotFound(name)
            return replace(known, limits=limits)

        async with self._changes.lock:
            before = self.get(name)
            state = await self._changes.in_thread(self._log.put, name, decide)
            self._book.put(name, state)
            tenant = self.get(name)
            await self._audit.record(
                Action.TENANT_CHANGE, name, name, _shown(before), _shown(tenant)
            )
            return tenant

    async def _delete(self, name: str) -> None:
        async with self._changes.lock:
            before = self.get(name)
            if name == DEFAULT_TENANT:
                raise NameConflict(f"The tenant {name!r} is the operator's own.")
            if self._adapters.owns(name, with_deleted=False):
                raise NameConflict(f"The tenant {name!r} owns adapters; delete them first.")
            await self._keys.revoke_all(name)
            state = await self._changes.in_thread(self._log.delete, name, int(self._clock()))
            self._book.put(name, state)
            await self._audit.record(Action.TENANT_DELETE, name, name, _shown(before))


def _is_taken(name: str) -> NameConflict:
    return NameConflict(f"There is a tenant {name!r} already.")


def _shown(tenant: Tenant) -> dict[str, object]:
    return {"limits": None if tenant.limits is None else asdict(tenant.limits)}
