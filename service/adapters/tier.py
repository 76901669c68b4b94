"""One cache tier in memory: who is in it, who is pinned, what it counts."""

from collections.abc import Iterator

from service.adapters.eviction import EvictionPolicy
from service.core import TierStats


class Tier:
    """Bytes by digest under a budget. Invariant: a pinned entry is never offered as a victim."""

    def __init__(self, budget_bytes: int, policy: EvictionPolicy) -> None:
        self.budget_bytes = budget_bytes
        self.num_bytes = 0
        self.hits = self.misses = self.evictions = self.loads = 0
        self.load_seconds = 0.0
        self._policy = policy
        self._bytes: dict[str, int] = {}
        self._pins: dict[str, int] = {}
        self._pinned_bytes = 0

    def __contains__(self, digest: str) -> bool:
        return digest in self._bytes

    def __iter__(self) -> Iterator[str]:
        return iter(self._bytes)

    def size_of(self, digest: str) -> int:
        return self._bytes[digest]

    def insert(self, digest: str, num_bytes: int, cost: float) -> None:
        """`cost` of bringing it here again, in one unit for the whole tier."""
        self._bytes[digest] = num_bytes
        self.num_bytes += num_bytes
        self._policy.insert(digest, num_bytes, cost)

    def set_cost(self, digest: str, cost: float) -> None:
        self._policy.set_cost(digest, cost)

    def mark_victim(self, digest: str) -> None:
        """It is about to leave for want of room."""
        self._policy.mark_victim(digest)

    def remove(self, digest: str) -> None:
        self.num_bytes -= self._bytes.pop(digest)
        self._policy.remove(digest)

    def touch(self, digest: str) -> None:
        self._policy.mark_used(digest)

    def pin(self, digest: str) -> None:
        count = self._pins.get(digest, 0)
        if not count:
            self._pinned_bytes += self._bytes[digest]
        self._pins[digest] = count + 1

    def unpin(self, digest: str) -> None:
        left = self._pins[digest] - 1
        if left:
            self._pins[digest] = left
        else:
            del self._pins[digest]
            self._pinned_bytes -= self._bytes[digest]

    @property
    def num_unpinned_bytes(self) -> int:
        """Free, or in the way of nobody."""
        return self.budget_bytes - self._pinned_bytes

    def is_pinned(self, digest: str) -> bool:
        return digest in self._pins

    def victims(self) -> Iterator[str]:
        """Entries that may leave, in the policy's order."""
        return (digest for digest in self._policy.victims() if digest not in self._pins)

    def stats(self) -> TierStats:
        return TierStats(
            hits=self.hits,
            misses=self.misses,
            evictions=self.evictions,
            loads=self.loads,
            load_seconds=self.load_seconds,
            num_bytes=self.num_bytes,
            budget_bytes=self.budget_bytes,
            num_adapters=len(self._bytes),
        )
