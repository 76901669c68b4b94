"""What the server says about adapters that it fetches itself."""

from service.client.results.base import Reason, Result


class ImportFailure(Result):
    code: str
    """As of an upload, or `source_not_found`, `source_denied`, …"""
    message: str
    reasons: tuple[Reason, ...]


class ImportResult(Result):
    version: int
    digest: str
    created: bool
    """False when this content already was the current version."""
    warnings: tuple[str, ...]
    unused_files: tuple[str, ...]


class Import(Result):
    id: str
    name: str
    tenant: str
    """Whose adapter it becomes."""
    source: str
    state: str
    """`waiting`, `fetching`, `validating`, `compiling`; at its end `ready`, `failed`,
    `cancelled`."""
    bytes: int
    """Fetched so far."""
    total_bytes: int | None
    """As far as the source has said."""
    revision: str
    """What the source calls what was fetched: a commit, an ETag."""
    created_at: int
    finished_at: int | None
    """Unix seconds."""
    error: ImportFailure | None
    result: ImportResult | None

    @property
    def is_over(self) -> bool:
        return self.state in ("ready", "failed", "cancelled")
