"""Use cases of keys: make one, list them, revoke one. A tenant's admin sees its own tenant only."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.access.key_log import FOLDER, KeyLog, num_records
from service.access.keys import Key, KeyRing, Secret, is_key_id
from service.access.tenants import TenantBook
from service.errors import InvalidRequest, KeyNotFound, PermissionDenied, StoreFull, TenantNotFound
from service.handlers.audit import Action, AuditLog
from service.handlers.changes import Changes
from service.tenancy import Principal, Role

MAX_KEYS = 1000
"""Of one tenant, the expired ones too."""


@dataclass(frozen=True, slots=True)
class WantedKey:
    role: Role
    tenant: str | None = None
    """None is the caller's own."""
    label: str = ""
    expires_at: int | None = None
    min_priority: int | None = None
    """None is what the caller's own key allows."""


class KeyService:
    folder = FOLDER

    def __init__(
        self,
        log: KeyLog,
        ring: KeyRing,
        tenants: TenantBook,
        changes: Changes,
        audit: AuditLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._ring = ring
        self._tenants = tenants
        self._changes = changes
        self._audit = audit
        self._clock = clock

    async def start(self) -> None:
        for key in await self._changes.in_thread(self._log.load):
            self._ring.put(key)

    def lengths(self) -> Mapping[str, int]:
        return {key.id: num_records(key) for key in self._ring.all()}

    async def follow(self, name: str, length: int) -> None:
        if not is_key_id(name):
            raise ValueError(f"{name!r} is no id of a key")
        async with self._changes.lock:
            known = self._ring.get(name)
            if known is None or num_records(known) < length:
                self._ring.put(await self._changes.in_thread(self._log.read, name))

    async def create(self, principal: Principal, wanted: WantedKey) -> tuple[Key, Secret]:
        """The secret is known to nobody after this. It opens the door once this returns."""
        tenant = _tenant_for(principal, wanted.tenant)
        min_priority = _priority_for(principal, wanted.min_priority)
        now = int(self._clock())
        if wanted.expires_at is not None and wanted.expires_at <= now:
            raise InvalidRequest("expires_at lies in the past.", "expires_at")
        secret = Secret.new()
        key = Key(
            secret.id,
            tenant,
            wanted.role,
            secret.digest,
            secret.ending,
            now,
            wanted.label,
            wanted.expires_at,
            min_priority,
        )
        await self._changes.change(self._create(key))
        return key, secret

    def list(self, principal: Principal, tenant: str | None) -> Sequence[Key]:
        """Oldest first, the expired ones too."""
        return self._ring.of_tenant(self._known(_tenant_for(principal, tenant)))

    async def revoke(self, principal: Principal, key_id: str) -> Key:
        """Whoever sends it from now on is turned away. Raises `KeyNotFound`."""
        return await self._changes.change(self._revoke(principal, key_id))

    def is_expired(self, key: Key) -> bool:
        return not key.is_valid(self._clock())

    async def revoke_all(self, tenant: str) -> None:
        """Of a tenant that goes; the caller holds the lock of changes."""
        for key in self._ring.of_tenant(tenant):
            await self._end(key)

    async def _create(self, key: Key) -> None:
        async with self._changes.lock:
            self._known(key.tenant)
            if len(self._ring.of_tenant(key.tenant)) >= MAX_KEYS:
                raise StoreFull(f"A tenant has at most {MAX_KEYS} keys; revoke some.")
            await self._changes.in_thread(self._log.create, key)
            await self._audit.record(Action.KEY_CREATE, key.tenant, key.id, None, _shown(key))
            self._ring.put(key)

    async def _revoke(self, principal: Principal, key_id: str) -> Key:
        async with self._changes.lock:
            key = self._ring.get(key_id)
            if key is None or key.revoked_at is not None or not principal.acts_for(key.tenant):
                raise KeyNotFound(key_id)
            return await self._end(key)

    async def _end(self, key: Key) -> Key:
        ended = await self._changes.in_thread(self._log.revoke, key, int(self._clock()))
        self._ring.put(ended)
        await self._audit.record(Action.KEY_REVOKE, key.tenant, key.id, _shown(key))
        return ended

    def _known(self, tenant: str) -> str:
        if self._tenants.get(tenant) is None:
            raise TenantNotFound(tenant)
        return tenant


def _tenant_for(principal: Principal, tenant: str | None) -> str:
    if tenant is None:
        return principal.tenant
    if not principal.acts_for(tenant):
        raise PermissionDenied("Keys of other tenants need an operator's key.")
    return tenant


def _priority_for(principal: Principal, min_priority: int | None) -> int:
    if min_priority is None:
        return principal.min_priority
    if min_priority < principal.min_priority and not principal.is_operator:
        raise PermissionDenied(
            f"This key allows priorities from {principal.min_priority} on, so a key that it makes"
            " allows no more urgent ones."
        )
    return min_priority


def _shown(key: Key) -> dict[str, object]:
    """For the audit log: nothing that helps to guess the secret."""
    return {
        "role": key.role,
        "label": key.label,
        "expires_at": key.expires_at,
        "min_priority": key.min_priority,
    }
