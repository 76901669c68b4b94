"""What this replica has where, and whose sequences ask for it: for who writes a router."""

import heapq
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from service.core import AdapterRef, EngineStats, TierStats
from service.engine.activity import Activity, Use
from service.errors import InvalidRequest
from service.handlers.replica import Replica, max_on_device
from service.tenancy import Principal, tenant_of

Place = Literal["device", "host", "disk"]
PLACES: tuple[Place, ...] = ("device", "host", "disk")

_Key = tuple[str, int]
"""Qualified name and version: the order of a page."""


@dataclass(frozen=True, slots=True)
class ResidentVersion:
    ref: AdapterRef
    tier: Place
    """The fastest that has it."""
    models: Sequence[str]
    """What `model` may say to get it."""
    num_running: int
    num_waiting: int
    is_pinned: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """Sequences."""

    num_running: int
    num_waiting: int
    num_cold: int


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What is of all tenants together, so for operators alone."""

    name: str
    generation: str
    tiers: Mapping[Place, TierStats]
    max_on_device: int


@dataclass(frozen=True, slots=True)
class ResidencyPage:
    rows: Sequence[ResidentVersion]
    has_more: bool
    queue: Queue
    """For a tenant, of what it has sent itself."""
    replica: ReplicaView | None


class ResidencyReader:
    def __init__(self, name: str, replica: Replica) -> None:
        """`name` tells the processes of a fleet apart."""
        self._name = name
        self._replica = replica
        self._start = secrets.token_hex(4)

    @property
    def generation(self) -> str:
        """Another one whenever something is elsewhere, goes by another name or is pinned otherwise.

        Revisions only grow, so their sum tells that one of them has.
        """
        look = self._replica
        revisions = (look.registry.revision, look.disk.revision, look.pins.revision)
        return f"{self._start}-{look.engine.stats().resident_revision + sum(revisions)}"

    def page(
        self, principal: Principal, places: AbstractSet[Place], limit: int, after: str | None
    ) -> ResidencyPage:
        """Of all adapters, or of the tenant's own with what it asks of them itself.

        Blocking for as long as it takes to go through all that is there. Raises `InvalidRequest`.
        """
        generation = self.generation  # First: what changes meanwhile shows in the next one.
        stats, activity = self._replica.engine.stats(), self._replica.engine.activity()
        tenant = None if principal.is_operator else principal.tenant
        start = None if after is None else _key_of(after)
        found = dict(self._found(stats, places, tenant))
        keys = heapq.nsmallest(limit + 1, (key for key in found if start is None or key > start))
        running = _by_version(activity.running, tenant)
        waiting = _by_version(activity.waiting, tenant) + _by_version(activity.cold, tenant)
        return ResidencyPage(
            rows=[self._row(*found[key], running[key], waiting[key]) for key in keys[:limit]],
            has_more=len(keys) > limit,
            queue=_queue(stats, activity, tenant),
            replica=self._view(stats, generation) if tenant is None else None,
        )

    def _found(
        self, stats: EngineStats, places: AbstractSet[Place], tenant: str | None
    ) -> Iterator[tuple[_Key, tuple[AdapterRef, Place]]]:
        registry = self._replica.registry
        for digest, place in self._places(stats):
            for ref in registry.named(digest) if place in places else ():
                is_seen = tenant is None or tenant_of(ref.name) == tenant
                if is_seen and not registry.is_over(ref.name):
                    yield (ref.name, ref.version), (ref, place)

    def _places(self, stats: EngineStats) -> Iterator[tuple[str, Place]]:
        """Every digest at the fastest place that has it."""
        for digest, tier in stats.resident.items():
            yield digest, "device" if tier == "device" else "host"
        for digest in self._replica.disk.digests():
            if digest not in stats.resident:
                yield digest, "disk"

    def _row(self, ref: AdapterRef, place: Place, running: int, waiting: int) -> ResidentVersion:
        return ResidentVersion(
            ref=ref,
            tier=place,
            models=self._replica.registry.written(ref.name, ref.version),
            num_running=running,
            num_waiting=waiting,
            is_pinned=self._replica.pins.holds(ref.name, ref.digest),
        )

    def _view(self, stats: EngineStats, generation: str) -> ReplicaView:
        tiers = {place: stats.tiers[place] for place in PLACES}
        most = max_on_device(tiers["device"], self._replica.registry.mean_bytes)
        return ReplicaView(self._name, generation, tiers, most)


def _key_of(after: str) -> _Key:
    name, _, number = after.rpartition("@")
    if not (name and number.isdecimal()):
        raise InvalidRequest("`after` is the `id` of an entry.", "after")
    return name, int(number)


def _by_version(uses: Mapping[Use, int], tenant: str | None) -> Counter[_Key]:
    """Sequences of everybody, or of one tenant."""
    counts: Counter[_Key] = Counter()
    for use, count in uses.items():
        if tenant is None or use.tenant == tenant:
            counts[use.name, use.version] += count
    return counts


def _queue(stats: EngineStats, activity: Activity, tenant: str | None) -> Queue:
    if tenant is None:
        return Queue(stats.num_running, stats.num_waiting, stats.num_cold)
    places = (activity.running, activity.waiting, activity.cold)
    return Queue(*(_by_version(uses, tenant).total() for uses in places))
