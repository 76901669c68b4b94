"""What is known of every name: the store's versions and pointers as others see and use them.

A change that a thread is writing is in the store before the registry knows. So one look takes one
history, and what of it has gone is left out of lists, or not found.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby, islice

from service.adapters.deletions import is_restorable, recoverable, recoverable_until
from service.adapters.disk_cache import DiskCache
from service.adapters.history import NameHistory
from service.adapters.manifest import Manifest
from service.adapters.operations import Publish
from service.adapters.registry import AdapterRegistry
from service.adapters.store import AdapterStore
from service.base import BaseDescription
from service.core import AdapterRef
from service.errors import AdapterNotFound, ModelNotFound, Refusal
from service.handlers.adapter_views import (
    AdapterView,
    DeletedVersionView,
    Tier,
    VersionView,
    view_version,
)
from service.handlers.models import ModelEntry
from service.tenancy import bare_name, tenant_of


class Directory:
    def __init__(
        self,
        store: AdapterStore,
        cache: DiskCache,
        registry: AdapterRegistry,
        base: BaseDescription,
        resident_tier: Callable[[str], Tier | None],
        unload: Callable[[str], object],
        retention_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`resident_tier` and `unload` take a digest and speak of the engine's memory; what was
        deleted is shown for `retention_s`."""
        self.registry = registry
        self.broken: Mapping[str, tuple[Refusal, ...]] = {}
        """Folders of the store that cannot be served, with the reasons."""
        self.listeners: list[Callable[[str], object]] = []
        """Told of every name that was registered anew."""
        self.revisions: dict[str, int] = {}
        """Operations of each name's journal whose outcome requests see."""
        self.is_pin_held: Callable[[str], bool] = lambda _: True
        self._store = store
        self._cache = cache
        self._base = base
        self._resident_tier = resident_tier
        self._unload = unload
        self._retention_s = retention_s
        self._clock = clock

    def register(self, name: str) -> None:
        """Let requests see the name as the store has it now. What no name leads to any more, by
        whoever's change, leaves the engine's memory."""
        before = self.registry.digests(name)
        history = self._store.history(name)
        refs = {number: self._ref(name, version) for number, version in history.versions.items()}
        usable = {number: ref for number, ref in refs.items() if ref is not None}
        if history.current in usable:
            visibility = history.visibility_of(name)
            self.registry.register(name, usable, history.current, history.aliases, visibility)
            self.registry.set_end(name, history.expires_at)
        else:
            self.registry.unregister(name)
        self.revisions[name] = history.num_operations
        for listen in self.listeners:
            listen(name)
        lost = before - self.registry.digests(name)
        for digest in sorted(lost - self._store.live_digests()) if lost else ():
            self._unload(digest)

    def ref_of(self, name: str, number: int, manifest: Manifest) -> AdapterRef:
        return AdapterRef(
            name,
            number,
            manifest.digest,
            compiled_bytes=manifest.payload_bytes(self._base.dtype),
            rank=manifest.rank,
            is_summable=manifest.is_summable,
            num_virtual_tokens=manifest.num_virtual_tokens,
            num_prefix_tokens=manifest.num_prefix_tokens,
            invocation_tokens=manifest.invocation_tokens,
            num_tasks=manifest.num_tasks,
            text_digest=manifest.text_digest,
        )

    def names(self, tenant: str, after: str | None = None) -> Iterator[str]:
        """Of its adapters, those that cannot be served too, sorted; behind this bare name."""
        broken = sorted(
            name
            for name in self.broken
            if tenant_of(name) == tenant and (after is None or bare_name(name) > after)
        )
        everything = groupby(merge(self._store.names_of(tenant, after), broken))
        return (name for name, _ in everything if self.has(name))

    def has(self, name: str) -> bool:
        """Whether there is such an adapter, usable or not."""
        return self._is_there(name, self._store.history(name))

    def list_deleted(
        self, tenant: str, limit: int, after: str | None
    ) -> tuple[Sequence[AdapterView], bool]:
        """A page of a tenant's deleted names that can be restored, and whether more follow."""
        owned = (n for n in self._store.names_with_deleted() if tenant_of(n) == tenant)
        names = (n for n in owned if after is None or bare_name(n) > after)
        histories = ((name, self._store.history(name)) for name in names)
        restorable = ((name, one) for name, one in histories if self._is_restorable(one))
        found = list(islice(restorable, limit + 1))
        return [self._view_deleted(*one) for one in found[:limit]], len(found) > limit

    def get(self, name: str) -> AdapterView:
        """Raises `AdapterNotFound`."""
        history = self._store.history(name)
        if not self._is_there(name, history):
            raise AdapterNotFound(name)
        return self._view(name, history)

    def view_all(self, names: Iterable[str]) -> Sequence[AdapterView]:
        """Of those that are still there."""
        histories = ((name, self._store.history(name)) for name in names)
        return [self._view(name, one) for name, one in histories if self._is_there(name, one)]

    def view(self, name: str) -> AdapterView:
        return self._view(name, self._store.history(name))

    def _is_there(self, name: str, history: NameHistory) -> bool:
        is_known = bool(history.versions) or name in self.broken
        return is_known and not self.registry.is_over(name)

    def _view(self, name: str, history: NameHistory) -> AdapterView:
        stored = [history.versions[number] for number in sorted(history.versions)]
        views = [self._view_version(version, history) for version in stored]
        reasons = self.broken.get(name, ())
        if stored and None in views:
            message = "The stored content of a version is damaged."
            reasons = (*reasons, Refusal("damaged", name, message))
        return AdapterView(
            name=name,
            state="ready" if self.registry.current(name) else "errored",
            created_at=stored[0].created_at if stored else None,
            versions=tuple(view for view in views if view is not None),
            reasons=reasons,
            aliases=dict(sorted(history.aliases.items())),
            deleted=self._deleted_versions(history),
            revision=history.num_operations,
            visibility=history.visibility_of(name),
            pinned=history.pinned,
            is_pin_over_limit=history.pinned and not self.is_pin_held(name),
            expires_at=history.expires_at,
        )

    def _view_deleted(self, name: str, history: NameHistory) -> AdapterView:
        assert history.grave is not None
        return AdapterView(
            name=name,
            state="deleted",
            created_at=min(history.deleted[n].version.created_at for n in history.grave.numbers),
            versions=(),
            reasons=(),
            aliases=dict(sorted(history.grave.aliases.items())),
            deleted=self._deleted_versions(history),
            revision=history.num_operations,
            visibility=history.visibility_of(name),
        )

    def _is_restorable(self, history: NameHistory) -> bool:
        return is_restorable(history, [one.number for one in self._deleted_versions(history)])

    def _deleted_versions(self, history: NameHistory) -> tuple[DeletedVersionView, ...]:
        found = recoverable(history, self._clock(), self._retention_s).values()
        shown = ((one, self._store.manifest(one.version.digest)) for one in found)
        return tuple(
            DeletedVersionView(
                number=one.version.number,
                digest=one.version.digest,
                created_at=one.version.created_at,
                deleted_at=one.deleted_at,
                recoverable_until=recoverable_until(one.deleted_at, self._retention_s),
                kind=manifest.kind,
                num_bytes=manifest.num_bytes,
            )
            for one, manifest in shown
            if manifest is not None
        )

    def view_version(self, name: str, version: Publish) -> VersionView | None:
        return self._view_version(version, self._store.history(name))

    def _view_version(self, version: Publish, history: NameHistory) -> VersionView | None:
        manifest = self._store.manifest(version.digest)
        if manifest is None:
            return None
        tier = self._resident_tier(version.digest)
        if tier is None:
            tier = "disk" if self._cache.has(version.digest) else "store"
        return view_version(version, history, manifest, tier)

    def list_models(self, id_of: Callable[[str], str | None]) -> Iterator[ModelEntry]:
        """Of the names that are still there and have an id; by no order."""
        for ref in self.registry.usable():
            model = id_of(ref.name)
            versions = self._store.history(ref.name).versions
            if model is not None and ref.version in versions:
                created = min(one.created_at for one in versions.values())
                yield ModelEntry(model, created, self._base.name, ref.version, ref.digest)

    def find_model(self, model: str) -> ModelEntry:
        """Raises `ModelNotFound`."""
        return self._model(model, self.registry.resolve(model))

    def _ref(self, name: str, version: Publish) -> AdapterRef | None:
        manifest = self._store.manifest(version.digest)
        return None if manifest is None else self.ref_of(name, version.number, manifest)

    def _model(self, model: str, ref: AdapterRef) -> ModelEntry:
        versions = self._store.history(ref.name).versions
        version = versions.get(ref.version)
        if version is None:
            raise ModelNotFound(model)
        created = min(one.created_at for one in versions.values())
        if "@" in model:
            created = version.created_at
        return ModelEntry(model, created, self._base.name, ref.version, ref.digest)
