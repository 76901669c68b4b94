"""What the server says about keys and tenants."""

from service.client.results.base import Result


class KeyInfo(Result):
    id: str
    tenant: str
    role: str
    label: str
    ending: str
    """Last characters of the secret."""
    created_at: int
    expires_at: int | None
    """Unix seconds; None = never."""
    expired: bool
    min_priority: int
    """The most urgent `priority` that it allows; lower is more urgent."""


class NewKey(KeyInfo):
    secret: str
    """Shown this once; the server keeps only a hash of it."""


class DeletedKey(Result):
    id: str
    deleted: bool


class Limits(Result):
    """None is unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None
    max_adapters: int | None = None
    max_adapter_bytes: int | None = None


class TenantInfo(Result):
    name: str
    created_at: int | None
    """None for the operator's own."""
    limits: Limits | None
    """None = the server's defaults."""


class DeletedTenant(Result):
    name: str
    deleted: bool
