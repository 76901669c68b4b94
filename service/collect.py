"""`gc`: frees in a store, while no server runs on it, what nothing points to any more."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.adapters.collector import Collector, Freed
from service.adapters.forms import FormFolder
from service.adapters.limits import AdapterLimits
from service.adapters.naming import written_digest
from service.adapters.store import AdapterStore
from service.handlers.audit import AuditLog
from service.handlers.name_audit import NameAudit
from service.settings import Settings
from service.store_backends import check_there_is_a_store, store_backends


@dataclass(frozen=True, slots=True)
class Report:
    freed: Freed
    is_dry_run: bool

    def body(self) -> dict[str, Any]:
        """For `--json`."""
        return self.freed.body(is_dry_run=self.is_dry_run)

    def lines(self) -> Iterator[str]:
        """For people."""
        for one in self.freed.versions:
            yield f"  {one.name}@{one.number}  {written_digest(one.digest[:12])}"
        verb = "would be freed" if self.is_dry_run else "freed"
        yield (
            f"{verb}: {len(self.freed.versions)} versions,"
            f" {self.freed.num_objects} contents of {self.freed.object_bytes:,} bytes,"
            f" compiled forms of {self.freed.form_bytes:,} bytes"
        )


def collect_offline(settings: Settings, *, is_dry_run: bool = False) -> Report:
    """Raises `ConfigurationError` when there is no store, or a server runs on it."""
    check_there_is_a_store(settings)
    store = AdapterStore(store_backends(settings, command="gc"), AdapterLimits())
    # What a crash left over is counted too, so it may not be gone before.
    store.open(is_tidied=False)
    try:
        forms = FormFolder(settings.cache_dir / "adapters")
        collector = Collector(store, forms, settings.deleted_retention_s)
        freed = collector.collect(time.time(), is_dry_run=is_dry_run)
        if not (freed.is_nothing or is_dry_run):
            asyncio.run(NameAudit(AuditLog(store.logs), store).collected(freed))
        return Report(freed, is_dry_run)
    finally:
        store.close()
