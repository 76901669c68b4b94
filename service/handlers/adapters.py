"""Use cases of adapters: publish, list, look at, delete. Knows no HTTP.

Disk work and compiling run in threads of their own; names and uses are changed on the event loop,
after the store has acknowledged. A change that has begun is finished even when its caller is gone.
"""

import asyncio
import shutil
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from service.adapters.compiling import CompileOutcome, Compiler
from service.adapters.disk_cache import DiskCache
from service.adapters.history import Publish
from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.adapters.naming import NAME_RULE, is_valid_name
from service.adapters.registry import AdapterRegistry
from service.adapters.staging import Staging
from service.adapters.store import AdapterStore, Published
from service.adapters.verdict import Verdict
from service.core import AdapterRef, BaseDescription
from service.errors import (
    AdapterLoadFailed,
    AdapterNotFound,
    AdapterRefused,
    InvalidRequest,
    NameConflict,
    Refusal,
)
from service.handlers.adapter_size import check_size
from service.handlers.adapter_views import (
    AdapterView,
    PublishResult,
    Tier,
    VersionView,
    view_version,
)
from service.handlers.folder_import import FolderImporter
from service.handlers.models import ModelEntry
from service.handlers.verification import Verifier

_T = TypeVar("_T")
_NUM_SPARE_THREADS = 2
"""For receiving and deleting while every compile slot is taken."""


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
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`unload` and `resident_tier` take a digest and speak of the engine's memory, which
        holds adapters of up to `max_compiled_bytes`."""
        self.limits = limits
        self.registry = registry
        self._store = store
        self._compiler = compiler
        self._cache = cache
        self._verifier = verifier
        self._is_checking_uploads = is_checking_uploads
        self._base = base
        self._unload = unload
        self._resident_tier = resident_tier
        self._is_base_strict = is_base_strict
        self._max_compiled_bytes = max_compiled_bytes
        self._clock = clock
        self._errored: dict[str, tuple[Refusal, ...]] = {}
        self._changing = asyncio.Lock()
        """Held by whoever changes the store: order, numbers and the registry move together."""
        self._compiling = asyncio.Semaphore(limits.max_parallel_compiles)
        """Waited for here and not in a thread, so that waiting uploads take no thread."""
        self._tasks: set[asyncio.Task[object]] = set()
        self._threads = ThreadPoolExecutor(
            limits.max_parallel_compiles + _NUM_SPARE_THREADS, thread_name_prefix="adapters"
        )

    async def start(self) -> None:
        """Bring the store into order and take over the folders that lie in it."""
        await self._in_thread(self._store.open)
        await self._in_thread(self._cache.start)
        importer = FolderImporter(
            self._store,
            self._compiler,
            self._base,
            self.limits,
            is_base_strict=self._is_base_strict,
        )
        self._errored = await self._in_thread(importer.run, self._commit)
        for name in self._store.names():
            self._register(name)

    async def close(self) -> None:
        """Finish what has begun; publishes that still compile are awaited."""
        while waiting := [task for task in self._tasks if not _is_cleanup(task)]:
            await asyncio.gather(*waiting, return_exceptions=True)
        for task in tuple(self._tasks):
            task.cancel()
        self._threads.shutdown(wait=True)
        self._store.close()

    async def open_staging(self, expected_bytes: int) -> Staging:
        """A place to receive an upload; the caller hands it to `publish` or discards it."""
        self._store.check_room(expected_bytes)
        return await self._in_thread(Staging, self._store.temporary, self.limits)

    async def receive(self, work: Callable[[], None]) -> None:
        """Run a bounded piece of disk work of an upload off the event loop."""
        await self._in_thread(work)

    async def discard(self, staging: Staging) -> None:
        await self._in_thread(staging.discard)

    async def publish(
        self, name: str, staging: Staging, convert_rank: int | None = None
    ) -> PublishResult:
        """Check, compile and store an upload, then let the name lead to it.

        With `convert_rank` it is approximated by a LoRA first, and the loss is kept with it.
        """
        return await self._finish(self._publish(name, staging, convert_rank))

    async def verify(self, model: str) -> tuple[AdapterRef, Verdict]:
        """Compare a version on the live engine with peft. Raises `ModelNotFound`."""
        ref = self.registry.acquire(model)
        work = self._store.temporary / f"verify-{uuid.uuid4().hex}"
        try:
            await self._in_thread(work.mkdir)
            folder = self._store.object_folder(ref.digest)
            async with self._compiling:
                return ref, await self._verifier.verify(ref, folder, work)
        finally:
            self.registry.release(ref)
            await self._in_thread(shutil.rmtree, work, True)

    async def delete(self, name: str) -> None:
        """Requests in flight finish; the content goes when the last of them has."""
        await self._finish(self._delete(name))

    def list(self, limit: int, after: str | None) -> tuple[Sequence[AdapterView], bool]:
        """A page in the order of the names, and whether more follow."""
        names = sorted({*self._store.names(), *self._errored})
        rest = [name for name in names if after is None or name > after]
        return [self._view(name) for name in rest[:limit]], len(rest) > limit

    def get(self, name: str) -> AdapterView:
        """Raises `AdapterNotFound`."""
        if not self._store.history(name).versions and name not in self._errored:
            raise AdapterNotFound(name)
        return self._view(name)

    def list_models(self) -> Sequence[ModelEntry]:
        return [self._model(name, self.registry.resolve(name)) for name in self.registry.names()]

    def find_model(self, model: str) -> ModelEntry:
        """Raises `ModelNotFound`."""
        return self._model(model, self.registry.resolve(model))

    def check_name(self, name: str) -> None:
        if not is_valid_name(name):
            raise InvalidRequest(f"{name[:200]!r} is no adapter name: {NAME_RULE}.", "name")
        if name == self._base.name:
            raise NameConflict(f"The base model is named {name!r}.")

    async def _publish(
        self, name: str, staging: Staging, convert_rank: int | None
    ) -> PublishResult:
        try:
            self.check_name(name)
            self._check_convert_rank(convert_rank)
            if staging.is_empty:
                raise InvalidRequest("The upload holds neither `files` nor an `archive`.", "files")
            async with self._compiling:
                outcome = await self._in_thread(
                    self._compiler.compile, staging.source, staging.work, convert_rank
                )
                check_size(outcome.manifest, self._base.dtype, self._max_compiled_bytes)
                verdict = await self._check_exact(name, outcome, staging.work)
            async with self._changing:
                published = await self._in_thread(self._commit, name, outcome, verdict)
                self._register(name)
        finally:
            await self._in_thread(staging.discard)
        version = self._view_version(name, published.version)
        assert version is not None
        return PublishResult(
            name, version, published.is_created, outcome.warnings, outcome.unused_files
        )

    def _check_convert_rank(self, rank: int | None) -> None:
        if rank is not None and rank > self.limits.max_lora_rank:
            message = f"The rank {rank} exceeds the limit {self.limits.max_lora_rank}."
            raise InvalidRequest(message, "rank")

    async def _check_exact(self, name: str, outcome: CompileOutcome, work: Path) -> Verdict | None:
        """Run the adapter on the live engine before anybody else can, and compare."""
        digest = outcome.manifest.digest
        if not self._is_checking_uploads or self._store.is_referenced(digest):
            return None
        await self._in_thread(self._cache.put, digest, outcome.compiled)
        ref = self._ref_of(name, 0, outcome.manifest)
        verdict = await self._verifier.verify(ref, outcome.folder, work)
        # In a narrower dtype the measure is a bound on noise, which is no reason to refuse.
        if not verdict.is_exact and verdict.dtype == "float32":
            self._unload(digest)
            await self._in_thread(self._cache.drop, digest)
            message = (
                "Served here, the adapter's logits differ from peft's by"
                f" {verdict.max_logit_difference:.2g}, where {verdict.tolerance:.2g} is allowed."
                " Please report it with the adapter's config."
            )
            raise AdapterRefused((Refusal("not_exact", "adapter_model.safetensors", message),))
        return verdict

    def _commit(
        self, name: str, outcome: CompileOutcome, verdict: Verdict | None = None
    ) -> Published:
        published = self._store.publish(name, outcome, int(self._clock()), verdict)
        # The compiled form can be made again, so no failure here takes the version back.
        with suppress(OSError, AdapterLoadFailed):
            self._cache.put(outcome.manifest.digest, outcome.compiled)
        return published

    async def _delete(self, name: str) -> None:
        async with self._changing:
            digests = {version.digest for version in self._store.history(name).versions.values()}
            if not await self._in_thread(self._store.delete, name, int(self._clock())):
                if name in self._errored:
                    raise NameConflict(
                        f"{name!r} is a broken folder in the store; remove it there."
                    )
                raise AdapterNotFound(name)
            self.registry.unregister(name)
        for digest in sorted(digests):
            if not self._store.is_referenced(digest):
                self._unload(digest)
                self._spawn(self._remove_content(digest), name=_CLEANUP)

    async def _remove_content(self, digest: str) -> None:
        await self.registry.drain(digest)
        async with self._changing:
            if await self._in_thread(self._store.remove_unreferenced, digest):
                await self._in_thread(self._cache.drop, digest)

    def _register(self, name: str) -> None:
        history = self._store.history(name)
        refs = {number: self._ref(name, version) for number, version in history.versions.items()}
        usable = {number: ref for number, ref in refs.items() if ref is not None}
        if history.current in usable:
            self.registry.register(name, usable, history.current)
        else:
            self.registry.unregister(name)

    def _ref(self, name: str, version: Publish) -> AdapterRef | None:
        manifest = self._store.manifest(version.digest)
        return None if manifest is None else self._ref_of(name, version.number, manifest)

    def _ref_of(self, name: str, number: int, manifest: Manifest) -> AdapterRef:
        return AdapterRef(
            name,
            number,
            manifest.digest,
            compiled_bytes=manifest.payload_bytes(self._base.dtype),
            is_summable=manifest.is_summable,
            num_virtual_tokens=manifest.num_virtual_tokens,
            num_prefix_tokens=manifest.num_prefix_tokens,
            invocation_tokens=manifest.invocation_tokens,
            num_tasks=manifest.num_tasks,
            text_digest=manifest.text_digest,
        )

    def _model(self, model: str, ref: AdapterRef) -> ModelEntry:
        version = self._store.history(ref.name).versions[ref.version]
        created = min(v.created_at for v in self._store.history(ref.name).versions.values())
        if model != ref.name:
            created = version.created_at
        return ModelEntry(model, created, self._base.name, ref.version, ref.digest)

    def _view(self, name: str) -> AdapterView:
        history = self._store.history(name)
        stored = [history.versions[number] for number in sorted(history.versions)]
        views = [self._view_version(name, version) for version in stored]
        reasons = self._errored.get(name, ())
        if stored and None in views:
            message = "The stored content of a version is damaged."
            reasons = (*reasons, Refusal("damaged", name, message))
        return AdapterView(
            name=name,
            state="ready" if self.registry.current(name) else "errored",
            created_at=stored[0].created_at if stored else None,
            versions=tuple(view for view in views if view is not None),
            reasons=reasons,
        )

    def _view_version(self, name: str, version: Publish) -> VersionView | None:
        manifest = self._store.manifest(version.digest)
        if manifest is None:
            return None
        tier = self._resident_tier(version.digest)
        if tier is None:
            tier = "disk" if self._cache.has(version.digest) else "store"
        return view_version(version, self._store.history(name), manifest, tier)

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *arguments))

    async def _finish(self, work: Coroutine[object, object, _T]) -> _T:
        """Threads cannot be stopped half way, so neither may what depends on their result."""
        return await asyncio.shield(self._spawn(work))

    def _spawn(
        self, work: Coroutine[object, object, _T], name: str | None = None
    ) -> "asyncio.Task[_T]":
        task: asyncio.Task[_T] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


_CLEANUP = "remove adapter content"


def _is_cleanup(task: "asyncio.Task[object]") -> bool:
    return task.get_name() == _CLEANUP
