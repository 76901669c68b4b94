"""What the server says about what was done with it."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from service.client.results.base import Result


class AuditActor(Result):
    tenant: str
    """Empty for the server itself."""
    key: str
    """Public id of the key; `settings`, `anonymous` and `server` are no keys."""


class AuditRecord(Result):
    id: str
    at: float
    """Unix seconds."""
    actor: AuditActor
    action: str
    """`adapter.publish`, `key.revoke`, …"""
    tenant: str
    """Whom it concerns."""
    target: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    request_id: str


class UsageRecord(Result):
    """None where it was not asked to tell apart."""

    id: str
    day: date | None
    tenant: str | None
    adapter: str | None
    version: str | None
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    loaded_bytes: int
