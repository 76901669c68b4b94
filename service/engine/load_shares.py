"""How much of the loader's threads and of host memory one tenant's cold adapters may take."""

from service.adapters.residency import Residency
from service.core import AdapterRef
from service.engine.admission import GREED
from service.engine.cold import ColdQueue, Wish


class LoadShares:
    """A storm of cold adapters leaves a thread and some memory to whoever else needs one.

    What is in memory for a waiting sequence is held until that runs. The rule is `Admission`'s:
    one tenant may hold GREED times what would be left, but one adapter is always allowed.
    """

    def __init__(self, residency: Residency, num_threads: int) -> None:
        self._residency = residency
        self._num_threads = num_threads
        self._held: dict[str, tuple[str, int]] = {}
        """Tenant and bytes of what is loaded or waits in memory for its turn, by digest."""

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
        self._forget_what_ran()
        if ref.digest in self._held:
            return True
        mine = sum(size for owner, size in self._held.values() if owner == tenant)
        room = self._residency.host.num_unpinned_bytes - ref.compiled_bytes
        return not mine or mine + ref.compiled_bytes <= GREED * room

    def note_held(self, ref: AdapterRef, tenant: str) -> None:
        self._held.setdefault(ref.digest, (tenant, ref.compiled_bytes))

    def _forget_what_ran(self) -> None:
        residency = self._residency
        for digest in list(self._held):
            if residency.is_kept(digest) or not residency.host.is_pinned(digest):
                del self._held[digest]
