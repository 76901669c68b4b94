"""How many adapters and bytes a tenant may keep.

Content counts for every tenant that has it, shared or not, so that nobody's room depends on what
others do. What was deleted and can be restored still takes room, as it does in the store.
"""

from service.adapters.manifest import Manifest
from service.adapters.store import AdapterStore
from service.errors import QuotaExceeded
from service.handlers.quotas import LimitsOf, unlimited
from service.tenancy import tenant_of


class AdapterQuotas:
    def __init__(self, store: AdapterStore, limits_of: LimitsOf = unlimited) -> None:
        self._store = store
        self._limits_of = limits_of

    def room(self, tenant: str) -> int | None:
        """Bytes that it may still keep; None = any number."""
        most = self._limits_of(tenant).max_adapter_bytes
        return None if most is None else max(0, most - self._size(self._store.kept_digests(tenant)))

    def check_announced(self, tenant: str, num_bytes: int) -> None:
        """Before an upload is read, by the size that it has announced."""
        limits = self._limits_of(tenant)
        if limits.max_adapter_bytes is not None:
            self._check_bytes(tenant, num_bytes, limits.max_adapter_bytes)

    def check_name(self, name: str) -> None:
        """Whether one more may lead to a version, if it does not yet."""
        tenant = tenant_of(name)
        most = self._limits_of(tenant).max_adapters
        if most is None or self._store.history(name).versions:
            return
        if self._store.num_adapters(tenant) >= most:
            raise QuotaExceeded(
                f"This tenant has {most} adapters, as many as it may (max_adapters); delete some."
            )

    def check_content(self, name: str, manifest: Manifest) -> None:
        """At the commit; the caller holds the lock of changes."""
        self.check_name(name)
        tenant = tenant_of(name)
        most = self._limits_of(tenant).max_adapter_bytes
        if most is not None and manifest.digest not in self._store.kept_digests(tenant):
            self._check_bytes(tenant, manifest.num_bytes, most)

    def _check_bytes(self, tenant: str, num_bytes: int, most: int) -> None:
        kept = self._store.kept_digests(tenant)
        held, live = self._size(kept), self._size(self._store.live_digests(tenant))
        if held + num_bytes > most:
            deleted = f", {held - live} of them deleted but not given up yet" if held > live else ""
            raise QuotaExceeded(
                f"This tenant's adapters take {held} bytes{deleted}; with {num_bytes} more they"
                f" exceed the {most} that it may keep (max_adapter_bytes)."
            )

    def _size(self, digests: set[str]) -> int:
        manifests = (self._store.manifest(digest) for digest in digests)
        return sum(manifest.num_bytes for manifest in manifests if manifest is not None)
