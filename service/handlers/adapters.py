"""Use cases of adapters: publish, list, look at, delete. Knows no HTTP.

Disk work and compiling run in threads of their own; names and uses are changed on the event loop,
after the store has acknowledged. A change that has begun is finished even when its caller is gone.
"""

import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.adapters.collector import Collector
from service.adapters.compiling import CompileOutcome, Compiler
from service.adapters.disk_cache import DiskCache
from service.adapters.journal import name_of
from service.adapters.lifetime import Lifetime
from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.adapters.naming import NAME_RULE, is_valid_name
from service.adapters.origin import Origin
from service.adapters.registry import AdapterRegistry
from service.adapters.staging import Staging
from service.adapters.store import AdapterStore, Published
from service.adapters.verdict import Verdict
from service.base import BaseDescription
from service.core import AdapterRef
from service.errors import (
    AdapterLoadFailed,
    AdapterRefused,
    InvalidRequest,
    NameConflict,
    Refusal,
    StoreUnavailable,
)
from service.handlers.adapter_following import AdapterFollowing
from service.handlers.adapter_quotas import AdapterQuotas
from service.handlers.adapter_size import check_size
from service.handlers.adapter_views import AdapterView, PublishResult, Tier
from service.handlers.aliases import AliasService
from service.handlers.audit import Action, AuditLog
from service.handlers.changes import Changes, always
from service.handlers.deletions import DeletionService
from service.handlers.directory import Directory
from service.handlers.expiry import ExpiryService
from service.handlers.folder_import import FolderImporter
from service.handlers.intake import Intake
from service.handlers.name_audit import NameAudit
from service.handlers.pins import PinBoard
from service.handlers.quotas import LimitsOf, unlimited
from service.handlers.turns import Turns
from service.handlers.verification import Verifier
from service.handlers.visible import VisibleAdapters
from service.phases import phase
from service.tenancy import (
    DEFAULT_TENANT,
    Visibility,
    bare_name,
    is_valid_tenant,
    qualified,
    tenant_of,
)

_NUM_SPARE_THREADS = 2
"""For receiving and deleting while every compile slot is taken."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an upload says of its name; None leaves it as it is."""

    lifetime: Lifetime | None = None
    visibility: Visibility | None = None
    origin: Origin | None = None
    """Of the content; None when the client sent it."""

    def end(self, now: int) -> int | None:
        """As in a `Publish`. Raises `InvalidRequest`."""
        return None if self.lifetime is None else self.lifetime.end(now)


class AdapterService:
    def __init__(
        self,
        store: AdapterStore,
        compiler: Compiler,
        cache: DiskCache,
        registry: AdapterRegistry,
        verifier: Verifier,
        base: BaseDescription,
        limits: AdapterLimits,
        *,
        unload: Callable[[str], object],
        resident_tier: Callable[[str], Tier | None],
        is_base_strict: bool = False,
        is_checking_uploads: bool = False,
        max_compiled_bytes: int | None = None,
        deleted_retention_s: float = 0.0,
        audit: AuditLog | None = None,
        pin: Callable[[Sequence[AdapterRef]], object] = len,
        pinned_bytes: int | None = None,
        limits_of: LimitsOf = unlimited,
        may_change: Callable[[], bool] = always,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`unload` and `resident_tier` take a digest and speak of the engine's memory, which
        holds adapters of up to `max_compiled_bytes`; what is deleted stays for the retention.
        `pin` tells it which versions to hold, of `pinned_bytes` at most. `audit` is by default one
        over the store's own logs; `limits_of` takes a tenant.
        `may_change`: whether the other replicas can be told of what is changed now."""
        self.limits = limits
        self.registry = registry
        self._store = store
        self._compiler = compiler
        self._cache = cache
        self._verifier = verifier
        self._is_checking_uploads = is_checking_uploads
        self._base = base
        self._unload = unload
        self._is_base_strict = is_base_strict
        self._max_compiled_bytes = max_compiled_bytes
        self._clock = clock
        self._changes = Changes(limits.max_parallel_compiles + _NUM_SPARE_THREADS, may_change)
        self._directory = Directory(
            store, cache, registry, base, resident_tier, unload, deleted_retention_s, clock
        )
        self.quotas = AdapterQuotas(store, limits_of)
        self._audit = NameAudit(audit or AuditLog(store.logs), store)
        self.pins = PinBoard(store, registry, self._bytes_in_memory, pin, pinned_bytes)
        self._directory.is_pin_held = self.pins.is_held
        self.aliases = AliasService(
            store, self._directory, self._changes, self._audit, self.pins, clock
        )
        self.visible = VisibleAdapters(registry, self._directory)
        self.deletions = DeletionService(
            store,
            Collector(store, cache, deleted_retention_s),
            registry,
            self._directory,
            self._changes,
            self._audit,
            self.quotas,
            retention_s=deleted_retention_s,
            clock=clock,
        )
        self.intake = Intake(store, limits, self.deletions, self._changes, self.quotas)
        self.expiry = ExpiryService(store, self.deletions, self._changes, clock)
        self.following = AdapterFollowing(store, self._directory, self._changes)
        self._directory.listeners += [self.pins.note, self.expiry.note]
        self._compiling = Turns(limits.max_parallel_compiles)

    async def start(self) -> None:
        """Bring the store into order and take over the folders that lie in it."""
        await self._changes.in_thread(self._store.open)
        if self._store.is_shared:
            await self._changes.in_thread(self._store.reconcile)
        await self._changes.in_thread(self._cache.start)
        await self.deletions.start()
        importer = FolderImporter(
            self._store,
            self._compiler,
            self._base,
            self.limits,
            is_base_strict=self._is_base_strict,
        )
        take_over = self._changes.from_thread(self._take_over)
        async with self._changes.lock:
            self._directory.broken = await self._changes.in_thread(importer.run, take_over)
        for log in self._store.lengths():
            self._directory.register(name_of(log))
        await self.expiry.start()

    async def close(self) -> None:
        """Finish what has begun; publishes that still compile are awaited."""
        await self.expiry.close()
        await self.deletions.close()
        await self._changes.close()
        self._store.close()

    async def publish(
        self,
        name: str,
        staging: Staging,
        convert_rank: int | None = None,
        lifetime: Lifetime | None = None,
        visibility: Visibility | None = None,
        origin: Origin | None = None,
    ) -> PublishResult:
        """Check, compile and store an upload, then let the name lead to it.

        With `convert_rank` it is approximated by a LoRA first, and the loss is kept with it. With
        a lifetime or a visibility, that is the name's from then on.
        """
        terms = Terms(lifetime, visibility, origin)
        try:
            self._changes.check_allowed()
        except StoreUnavailable:
            await self.intake.discard(staging)
            raise
        return await self._changes.finish(self._publish(name, staging, convert_rank, terms))

    async def verify(self, model: str) -> tuple[AdapterRef, Verdict]:
        """Compare a version on the live engine with peft. Raises `ModelNotFound`."""
        ref = self.registry.acquire(model)
        work = self._store.temporary / f"verify-{uuid.uuid4().hex}"
        try:
            await self._changes.in_thread(work.mkdir)
            folder = await self._changes.in_thread(self._store.object_folder, ref.digest)
            async with self._compiling.of(tenant_of(ref.name)):
                return ref, await self._verifier.verify(ref, folder, work)
        finally:
            self.registry.release(ref)
            await self._changes.in_thread(shutil.rmtree, work, True)

    async def delete(self, name: str) -> None:
        """The name with all its versions; requests in flight finish."""
        await self.deletions.delete(name)

    def get(self, name: str) -> AdapterView:
        """Raises `AdapterNotFound`."""
        return self._directory.get(name)

    def check_name(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        if not (is_valid_name(name) and is_valid_tenant(tenant)):
            raise InvalidRequest(f"{name[:200]!r} is no adapter name: {NAME_RULE}.", "name")
        if self._base.name in (name, qualified(tenant, name)):
            raise NameConflict(f"The base model is named {name!r}.")

    def check_wanted(self, name: str, convert_rank: int | None, terms: Terms) -> None:
        """What can be refused before a byte is there; `name` is qualified."""
        self.check_name(bare_name(name), tenant_of(name))
        self.quotas.check_name(name)
        self._check_convert_rank(convert_rank)
        terms.end(int(self._clock()))

    async def _take_over(self, name: str, outcome: CompileOutcome) -> None:
        """One at a time is recorded: a crash among many folders leaves none that is in the store
        and not in the log, but for the last."""
        async with self._audit.of(Action.ADAPTER_PUBLISH, name):
            await self._changes.in_thread(self._commit_folder, name, outcome)

    async def _publish(
        self,
        name: str,
        staging: Staging,
        convert_rank: int | None,
        terms: Terms,
    ) -> PublishResult:
        try:
            self.check_wanted(name, convert_rank, terms)
            if staging.is_empty:
                raise InvalidRequest("The upload holds neither `files` nor an `archive`.", "files")
            async with self._compiling.of(tenant_of(name)):
                with phase("compile"):
                    outcome = await self._changes.in_thread(
                        self._compiler.compile, staging.source, staging.work, convert_rank
                    )
                check_size(outcome.manifest, self._base.dtype, self._max_compiled_bytes)
                async with self._held(name, outcome.manifest):
                    verdict = await self._check_exact(name, outcome, staging.work)
                    return await self._commit_checked(name, outcome, verdict, terms)
        finally:
            await self.intake.discard(staging)

    @asynccontextmanager
    async def _held(self, name: str, manifest: Manifest) -> AsyncIterator[None]:
        """Nobody frees what an upload brings, though no version may have it (any more)."""
        ref = self._directory.ref_of(name, 0, manifest)
        async with self._changes.lock:  # not in the middle of a collection, which has looked
            self.registry.hold(ref)
        try:
            yield
        finally:
            self.registry.release(ref)

    async def _commit_checked(
        self,
        name: str,
        outcome: CompileOutcome,
        verdict: Verdict | None,
        terms: Terms,
    ) -> PublishResult:
        await self.deletions.delete_expired(name, self._clock())
        # Not whether anybody has the content: how full the store is must not tell that.
        if not self._store.keeps(outcome.manifest.digest, tenant_of(name)):
            await self.deletions.make_room(outcome.manifest.num_bytes)
        async with self._changes.lock, self._audit.of(Action.ADAPTER_PUBLISH, name):
            self.quotas.check_content(name, outcome.manifest)
            with phase("commit"):
                published = await self._changes.in_thread(
                    self._commit, name, outcome, verdict, terms
                )
            self._directory.register(name)
            # Still under the lock: it may be deleted and freed before anybody is told of it.
            version = self._directory.view_version(name, published.version)
            assert version is not None
            return PublishResult(
                name,
                version,
                published.is_created,
                outcome.warnings,
                outcome.unused_files,
                self._store.history(name).num_operations,
            )

    def _check_convert_rank(self, rank: int | None) -> None:
        if rank is not None and rank > self.limits.max_lora_rank:
            message = f"The rank {rank} exceeds the limit {self.limits.max_lora_rank}."
            raise InvalidRequest(message, "rank")

    async def _check_exact(self, name: str, outcome: CompileOutcome, work: Path) -> Verdict | None:
        """Run the adapter on the live engine before anybody else can, and compare."""
        digest = outcome.manifest.digest
        if not self._is_checking_uploads or self._store.is_live(digest, tenant_of(name)):
            return None
        await self._changes.in_thread(self._cache.put, digest, outcome.compiled)
        ref = self._directory.ref_of(name, 0, outcome.manifest)
        verdict = await self._verifier.verify(ref, outcome.folder, work)
        # On a noisy base the measure is a bound on noise, which is no reason to refuse.
        if not verdict.is_exact and not self._base.is_noisy:
            if not self._store.is_live(digest):
                self._unload(digest)
                await self._changes.in_thread(self._cache.drop, digest)
            message = (
                "Served here, the adapter's logits differ from peft's by"
                f" {verdict.max_logit_difference:.2g}, where {verdict.tolerance:.2g} is allowed."
                " Please report it with the adapter's config."
            )
            raise AdapterRefused((Refusal("not_exact", "adapter_model.safetensors", message),))
        return verdict

    def _bytes_in_memory(self, digest: str) -> int | None:
        manifest = self._store.manifest(digest)
        return None if manifest is None else manifest.payload_bytes(self._base.dtype)

    def _commit(
        self,
        name: str,
        outcome: CompileOutcome,
        verdict: Verdict | None,
        terms: Terms,
    ) -> Published:
        now = int(self._clock())
        self._keep_form(outcome)
        return self._store.publish(
            name, outcome, now, verdict, terms.end(now), terms.visibility, terms.origin
        )

    def _commit_folder(self, name: str, outcome: CompileOutcome) -> None:
        self._keep_form(outcome)
        self._store.publish_once(name, outcome, int(self._clock()))

    def _keep_form(self, outcome: CompileOutcome) -> None:
        """Before the version is recorded, so that who hears of it finds its form. It can be made
        again: no failure here keeps the version from being published."""
        with suppress(OSError, AdapterLoadFailed):
            self._cache.put(outcome.manifest.digest, outcome.compiled)
