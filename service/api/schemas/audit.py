"""Bodies of `/v1/audit`."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.handlers.audit import AuditEntry, AuditPage


class AuditActor(BaseModel):
    tenant: str = Field(description="Empty for the server itself.")
    key: str = Field(
        description="Public id of the key, or `settings`, `anonymous` (a server without keys) or"
        " `server` (what it does of its own accord)."
    )


class AuditRecord(BaseModel):
    object: Literal["audit.record"] = "audit.record"
    id: str = Field(description="For `after`.", examples=["2026-03-05.17"])
    at: float = Field(description="Unix seconds.")
    actor: AuditActor
    action: str = Field(examples=["adapter.publish", "key.revoke"])
    tenant: str = Field(description="Whom it concerns: the owner of the target.")
    target: str = Field(description="Adapter, key or tenant; empty for the store as a whole.")
    before: Mapping[str, Any] = Field(description="What was changed, as it was.")
    after: Mapping[str, Any] = Field(description="The same, as it is since then.")
    request_id: str = Field(description="`X-Request-Id` of the request that did it.")

    @classmethod
    def of(cls, cursor: str, entry: AuditEntry) -> "AuditRecord":
        return cls(
            id=cursor,
            at=round(entry.at, 3),
            actor=AuditActor(tenant=entry.actor.tenant, key=entry.actor.key_id),
            action=entry.action,
            tenant=entry.tenant,
            target=entry.target,
            before=entry.before,
            after=entry.after,
            request_id=entry.actor.request_id,
        )


class AuditRecords(BaseModel):
    object: Literal["list"] = "list"
    data: list[AuditRecord]
    has_more: bool

    @classmethod
    def of(cls, page: AuditPage) -> "AuditRecords":
        data = [AuditRecord.of(cursor, entry) for cursor, entry in page.entries]
        return cls(data=data, has_more=page.has_more)
