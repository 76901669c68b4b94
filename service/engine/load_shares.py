"""How much of the loader's threads and of host memory one tenant's cold adapters may take."""

from collections import Counter

from service.adapters.residency import Residency
from service.core import AdapterRef
from service.engine.admission import GREED
from service.engine.cold import ColdQueue, Wish

_SLACK = 64
"""Entries that may be there before anybody looks which of them have run."""


class LoadShares:
    """A storm of cold adapters leaves a thread and some memory to whoever else needs one.

    What is in memory for a waiting sequence is held until that runs. The rule is `Admission`'s:
    one tenant may hold GREED times what would be left, but one adapter is always allowed.
    """

    def __init__(self, residency: Residency, num_threads: int) -> None:
        self._residency = residency
        self._num_threads = num_threads
        self._held: dict[str, tuple[str, int]] = {}
        """Tenant and bytes of what is loaded or waits in memory for its turn, by digest.

        What has run meanwhile is forgotten when it would be in somebody's way, or when it is much.
        """
        self._held_by: Counter[str] = Counter()
        """The bytes by tenant."""
        self._max_held = _SLACK

    def has_thread(self, cold: ColdQueue) -> bool:
        """What is not started yet can still be put in another order."""
        return cold.num_loading < self._num_threads

    def may_start(self, wish: Wish, cold: ColdQueue) -> bool:
        """The last free thread is for a tenant that uses none."""
        num_loading = cold.num_loading_for(wish.tenant)
        if num_loading and num_loading >= self._num_threads - 1:
            return False
        return self.may_hold(wish.ref, wish.tenant)

    def may_hold(self, ref: AdapterRef, tenant: str) -> bool:
        """Whether `tenant` may have one more in host memory that nothing can evict."""
        if ref.digest in self._held and self._has_run(ref.digest):
            self._forget(ref.digest)
        if ref.digest in self._held or self._fits_share(ref, tenant):
            return True
        self._forget_what_ran()
        return self._fits_share(ref, tenant)

    def note_held(self, ref: AdapterRef, tenant: str) -> None:
        if ref.digest in self._held:
            return
        if len(self._held) >= self._max_held:
            self._forget_what_ran()
        self._held[ref.digest] = (tenant, ref.compiled_bytes)
        self._held_by[tenant] += ref.compiled_bytes

    def _fits_share(self, ref: AdapterRef, tenant: str) -> bool:
        mine = self._held_by[tenant]
        room = self._residency.host.num_unpinned_bytes - ref.compiled_bytes
        return not mine or mine + ref.compiled_bytes <= GREED * room

    def _forget_what_ran(self) -> None:
        """Seldom, so that it may look at all of them."""
        for digest in [one for one in self._held if self._has_run(one)]:
            self._forget(digest)
        self._max_held = 2 * len(self._held) + _SLACK

    def _has_run(self, digest: str) -> bool:
        residency = self._residency
        return residency.is_kept(digest) or not residency.host.is_pinned(digest)

    def _forget(self, digest: str) -> None:
        tenant, size = self._held.pop(digest)
        self._held_by[tenant] -= size
        if not self._held_by[tenant]:
            del self._held_by[tenant]
