"""What a change made of a name, for the audit log: its pointers and versions before and after."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from service.adapters.collector import Freed
from service.adapters.history import NameHistory
from service.adapters.naming import written_digest
from service.adapters.store import AdapterStore
from service.handlers.audit import Action, AuditLog
from service.tenancy import DEFAULT_TENANT, bare_name, tenant_of


class NameAudit:
    def __init__(self, audit: AuditLog, store: AdapterStore) -> None:
        self._audit = audit
        self._store = store

    @asynccontextmanager
    async def of(self, action: Action, *names: str) -> AsyncIterator[None]:
        """Around a change that is durable when the block ends. Names that it leaves as they were
        are not recorded, and none is when it fails.

        The caller holds the lock of changes, so the order of the log is that of the changes.
        """
        before = {name: self._store.last_change(name) for name in names}
        yield
        for name in names:
            change = self._store.last_change(name)
            if change is None or change is before[name]:
                continue
            old, new = map(_state, change)
            if old != new:
                await self._audit.record(
                    action,
                    tenant_of(name),
                    bare_name(name),
                    {key: value for key, value in old.items() if new.get(key) != value},
                    {key: value for key, value in new.items() if old.get(key) != value},
                )

    async def collected(self, freed: Freed) -> None:
        """Each tenant is told which of its versions went; the bytes are the operator's."""
        by_tenant: dict[str, list[str]] = {DEFAULT_TENANT: []}
        for version in freed.versions:
            label = f"{bare_name(version.name)}@{version.number}"
            by_tenant.setdefault(tenant_of(version.name), []).append(label)
        for tenant, labels in by_tenant.items():
            after: dict[str, Any] = {}
            if tenant == DEFAULT_TENANT:
                num_bytes = freed.object_bytes + freed.form_bytes
                after = {"objects": freed.num_objects, "bytes": num_bytes}
            await self._audit.record(
                Action.COLLECT_GARBAGE, tenant, "", {"versions": labels}, after
            )


def _state(history: NameHistory) -> dict[str, Any]:
    """Flat, so that only what has changed is recorded."""
    state: dict[str, Any] = {} if history.current is None else {"current": history.current}
    if history.pinned:
        state["pinned"] = True
    if history.expires_at is not None:
        state["expires_at"] = history.expires_at
    for number, version in history.versions.items():
        state[f"versions.{number}"] = written_digest(version.digest)
        if version.origin is not None:
            source = {"source": version.origin.source, "revision": version.origin.revision}
            state[f"sources.{number}"] = source
    for alias, shares in history.aliases.items():
        state[f"aliases.{alias}"] = {str(number): weight for number, weight in shares}
    if history.visibility is not None:
        state["visibility"] = list(history.visibility)
    return state
