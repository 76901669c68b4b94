"""A whole control plane in a folder: real store, real child, no engine."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.adapters.backends.folder_store import folder_backends
from service.adapters.backends.store_backends import StoreBackends
from service.adapters.compiling import Compiler
from service.adapters.disk_cache import DiskCache
from service.adapters.limits import AdapterLimits
from service.adapters.registry import AdapterRegistry
from service.adapters.staging import Staging
from service.adapters.store import AdapterStore
from service.base import BaseDescription
from service.compiler.launcher import ChildCompiler
from service.core import AdapterRef
from service.handlers.adapter_views import PublishResult
from service.handlers.adapters import AdapterService
from service.handlers.changes import always
from service.handlers.verification import Verifier
from service.tenancy import UNLIMITED, TenantLimits


@dataclass
class House:
    root: Path
    base: BaseDescription
    limits: AdapterLimits = field(default_factory=AdapterLimits)
    is_base_strict: bool = False
    cache_bytes: int = 1 << 30
    verifier: Verifier | None = None
    """By default uploads are not checked."""
    compiler: Compiler | None = None
    """By default the real child."""
    deleted_retention_s: float = 0.0
    pinned_bytes: int | None = None
    tenant_limits: TenantLimits = UNLIMITED
    """Of every tenant."""
    skipped_s: float = 0.0
    """How far this control plane's clock is ahead."""
    backends: StoreBackends | None = None
    """By default those of a process that owns the folder."""
    may_change: Callable[[], bool] = always

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.unloaded: list[str] = []
        self.store = AdapterStore(self.backends or folder_backends(self.root), self.limits)
        self.compiler = self.compiler or ChildCompiler(
            self.base, self.limits, is_base_strict=self.is_base_strict
        )
        self.cache = DiskCache(
            self.root / ".repertoire" / "cache",
            self.cache_bytes,
            self.base,
            self._rebuild,
            self.store.forms,
        )
        self.registry = AdapterRegistry(self._now)
        self.pinned: list[AdapterRef] = []
        self.service = AdapterService(
            self.store,
            self.compiler,
            self.cache,
            self.registry,
            self.verifier,
            self.base,
            self.limits,
            unload=self.unloaded.append,
            resident_tier=lambda digest: None,
            is_base_strict=self.is_base_strict,
            is_checking_uploads=self.verifier is not None,
            deleted_retention_s=self.deleted_retention_s,
            pin=self._pin,
            pinned_bytes=self.pinned_bytes,
            clock=self._now,
            may_change=self.may_change,
            limits_of=lambda tenant: self.tenant_limits,
        )

    def _now(self) -> float:
        return time.time() + self.skipped_s

    def _pin(self, refs: Sequence[AdapterRef]) -> None:
        self.pinned = list(refs)

    def _rebuild(self, digest: str, work: Path) -> Path:
        return self.compiler.compile(
            self.store.object_folder(digest), work, is_stored=True
        ).compiled

    async def publish(self, name: str, folder: Path) -> PublishResult:
        return await self.service.publish(name, self.stage(folder))

    def stage(self, folder: Path) -> Staging:
        staging = Staging(self.store.temporary, self.limits)
        for path in sorted(folder.iterdir()):
            staging.begin_file(path.name)
            staging.write(path.read_bytes())
            staging.end()
        return staging


def run(house: House, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """From the start of the control plane to its end, whatever happens between."""

    async def main() -> None:
        await house.service.start()
        try:
            await scenario()
        finally:
            await house.service.close()

    asyncio.run(main())
