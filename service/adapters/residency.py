"""What is where: decides which versions are in host memory and on the device, and who is evicted.

Pure bookkeeping, called by the engine thread alone. The copies are `model/pool.py`'s, which carries
out the plan that `take_plan` hands over before each step.
"""

import heapq

from service.adapters.arena import PAGE_BYTES, Extent, PageArena
from service.adapters.eviction import eviction_policy
from service.adapters.tier import Tier
from service.core import AdapterRef, TierStats
from service.step import ResidencyPlan, SlotLoad


class Residency:
    """Invariants: an adapter pinned in a tier stays there; a slot belongs to one digest at a time.

    A waiting sequence holds its adapter in host memory, a running one on the device. Whoever is
    loaded is held until it has run, so a storm of cold adapters cannot evict its own work.
    """

    def __init__(
        self,
        device_bytes: int,
        host_bytes: int,
        policy: str = "lru",
        page_bytes: int = PAGE_BYTES,
    ) -> None:
        self.device = Tier(device_bytes, eviction_policy(policy))
        self.host = Tier(host_bytes, eviction_policy(policy))
        self._arena = PageArena(device_bytes, page_bytes)
        self._slots: dict[str, tuple[int, Extent]] = {}
        self._free_slots: list[int] = []
        self._num_slots = 0
        self._loading: set[str] = set()
        self._doomed: set[str] = set()
        self._kept: set[str] = set()
        """Digests whose host copy is held until `unkeep`, used or not."""
        self._sums: dict[str, frozenset[str]] = {}
        """The digests of the parts, by the digest of each sum that is in memory."""
        self._plan = ResidencyPlan([], [], [])
        self._tiers: dict[str, str] = {}
        self.revision = 0
        """Grows with every change of `resident()`."""

    def can_ever_hold(self, ref: AdapterRef) -> bool:
        """As long as nothing more or less is kept."""
        kept = sum(self.host.size_of(one) for one in self._kept if one != ref.digest)
        return self._fits_empty(ref) and ref.compiled_bytes <= self.host.budget_bytes - kept

    def is_kept_out(self, ref: AdapterRef) -> bool:
        """Nothing but what is kept leaves no room for it."""
        return self._fits_empty(ref) and not self.can_ever_hold(ref)

    def _fits_empty(self, ref: AdapterRef) -> bool:
        fits_host = ref.compiled_bytes <= self.host.budget_bytes
        return fits_host and self._arena.fits_empty(ref.compiled_bytes)

    def is_resident(self, digest: str) -> bool:
        return digest in self._slots or self.is_in_host(digest)

    def is_on_device(self, digest: str) -> bool:
        return digest in self._slots

    def is_in_host(self, digest: str) -> bool:
        return digest in self.host and digest not in self._loading

    def count_lookup(self, digest: str) -> str:
        """Count one request's hit or miss in each memory tier; the name of the tier it is in."""
        if digest in self._slots:
            self.device.hits += 1
            self.device.touch(digest)
            return "device"
        self.device.misses += 1
        if self.is_in_host(digest):
            self.host.hits += 1
            self.host.touch(digest)
            return "host"
        self.host.misses += 1
        return "disk"

    def try_reserve_host(self, ref: AdapterRef) -> bool:
        """Make room in host memory for a load that starts now; False when all of it is held."""
        if not self._make_host_room(ref.compiled_bytes):
            return False
        self._loading.add(ref.digest)
        if ref.parts:
            self._sums[ref.digest] = frozenset(part.ref.digest for part in ref.parts)
        self.host.insert(ref.digest, ref.compiled_bytes, cost=0.0)
        self.host.pin(ref.digest)
        return True

    def finish_load(self, digest: str, seconds: float, num_holders: int) -> None:
        """The host copy is there; `num_holders` waiting sequences hold it, each until `unhold`."""
        self._loading.discard(digest)
        self._note_tier(digest)
        for _ in range(num_holders):
            self.host.pin(digest)
        self.host.loads += 1
        self.host.load_seconds += seconds
        self.host.set_cost(digest, seconds)
        self._unpin_host(digest)

    def fail_load(self, digest: str) -> None:
        self._loading.discard(digest)
        self.host.unpin(digest)
        self.host.remove(digest)
        self._doomed.discard(digest)
        self._sums.pop(digest, None)

    def hold(self, digest: str) -> bool:
        """Keep the host copy until `unhold`; False when there is none to keep."""
        if not self.is_in_host(digest):
            return False
        self.host.pin(digest)
        return True

    def unhold(self, digest: str) -> None:
        self._unpin_host(digest)

    def keep(self, digest: str) -> None:
        """Hold the host copy, if there is one, until `unkeep`; once is enough."""
        if digest not in self._kept and self.hold(digest):
            self._kept.add(digest)
            self.revive(digest)

    def unkeep(self, digest: str) -> None:
        if digest in self._kept:
            self._kept.remove(digest)
            self.unhold(digest)

    def is_kept(self, digest: str) -> bool:
        return digest in self._kept

    def try_activate(self, ref: AdapterRef) -> int | None:
        """Pin the adapter on the device and return its slot; None when there is no room now.

        The caller has checked `is_resident`.
        """
        if ref.digest not in self._slots and not self._place(ref):
            return None
        self.device.pin(ref.digest)
        self.device.touch(ref.digest)
        return self._slots[ref.digest][0]

    def deactivate(self, digest: str) -> None:
        self.device.unpin(digest)
        self._drop_if_doomed(digest)

    def forget(self, digest: str) -> None:
        """Drop a version and the sums that contain it, each at once or when its last use ends."""
        sums = [one for one, parts in self._sums.items() if digest in parts]
        for one in (digest, *sums):
            if self.is_resident(one) or one in self._loading:
                self._doomed.add(one)
                self._drop_if_doomed(one)

    def revive(self, digest: str) -> None:
        """A request names the version again before its last use ended: keep it."""
        self._doomed.discard(digest)

    @property
    def mean_load_seconds(self) -> float:
        """Of a load into host memory; 0 before the first."""
        return self.host.load_seconds / max(1, self.host.loads)

    def take_plan(self) -> ResidencyPlan:
        plan, self._plan = self._plan, ResidencyPlan([], [], [])
        return plan

    def stats(self) -> dict[str, TierStats]:
        return {"device": self.device.stats(), "host": self.host.stats()}

    def resident(self) -> dict[str, str]:
        """The fastest memory tier of each digest, the latest change last; a copy for the caller."""
        return dict(self._tiers)

    def _make_host_room(self, num_bytes: int) -> bool:
        victims = []
        room = self.host.budget_bytes - self.host.num_bytes
        for digest in self.host.victims():
            if room >= num_bytes:
                break
            victims.append(digest)
            room += self.host.size_of(digest)
        if room < num_bytes:
            return False
        for digest in victims:
            self.host.mark_victim(digest)
            self._evict_host(digest)
        return True

    def _place(self, ref: AdapterRef) -> bool:
        victims = self._device_victims(ref.compiled_bytes)
        if victims is None:
            return False
        for digest in victims:
            self.device.mark_victim(digest)
            self._evict_device(digest)
        extent = self._arena.allocate(ref.compiled_bytes)
        assert extent is not None, "the trial run found room"
        slot = self._take_slot()
        self._slots[ref.digest] = (slot, extent)
        # A copy takes as long as it has bytes.
        self.device.insert(ref.digest, extent.num_bytes, cost=extent.num_bytes)
        self.device.loads += 1
        self._plan.loads.append(SlotLoad(ref.digest, slot, extent.offset))
        self._note_tier(ref.digest)
        return True

    def _device_victims(self, num_bytes: int) -> list[str] | None:
        """Whom to evict so that a run of `num_bytes` is free; None when even all would not do."""
        trial = self._arena.copy()
        victims: list[str] = []
        candidates = self.device.victims()
        while not trial.can_allocate(num_bytes):
            digest = next(candidates, None)
            if digest is None:
                return None
            victims.append(digest)
            trial.free(self._slots[digest][1])
        return victims

    def _take_slot(self) -> int:
        if self._free_slots:
            return heapq.heappop(self._free_slots)
        self._num_slots += 1
        return self._num_slots - 1

    def _evict_device(self, digest: str) -> None:
        slot, extent = self._slots.pop(digest)
        self._arena.free(extent)
        heapq.heappush(self._free_slots, slot)
        self.device.remove(digest)
        self.device.evictions += 1
        self._note_tier(digest)
        planned = [load for load in self._plan.loads if load.slot != slot]
        if len(planned) == len(self._plan.loads):
            self._plan.evicted_slots.append(slot)
        self._plan.loads[:] = planned
        self._drop_sum_if_gone(digest)

    def _evict_host(self, digest: str) -> None:
        self.host.remove(digest)
        self.host.evictions += 1
        self._note_tier(digest)
        self._plan.evicted_hosts.append(digest)
        self._drop_sum_if_gone(digest)

    def _note_tier(self, digest: str) -> None:
        self.revision += 1
        self._tiers.pop(digest, None)
        if digest in self._slots:
            self._tiers[digest] = "device"
        elif self.is_in_host(digest):
            self._tiers[digest] = "host"

    def _drop_sum_if_gone(self, digest: str) -> None:
        if digest not in self._slots and digest not in self.host:
            self._sums.pop(digest, None)

    def _unpin_host(self, digest: str) -> None:
        self.host.unpin(digest)
        self._drop_if_doomed(digest)

    def _drop_if_doomed(self, digest: str) -> None:
        if digest not in self._doomed or digest in self._loading:
            return
        if self.device.is_pinned(digest) or self.host.is_pinned(digest):
            return
        self._doomed.discard(digest)
        if digest in self._slots:
            self._evict_device(digest)
        if digest in self.host:
            self._evict_host(digest)
