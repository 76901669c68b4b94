"""Who leaves a full tier. A policy orders digests; who may leave is the caller's business."""

import itertools
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass


class EvictionPolicy(ABC):
    @abstractmethod
    def insert(self, digest: str, num_bytes: int, cost: float) -> None:
        """`digest` is in the tier from now on, and used now.

        `cost` is what bringing it back would take, in one unit for the whole tier.
        """

    def set_cost(self, digest: str, cost: float) -> None:  # noqa: B027
        """The cost of an entry is known better now."""

    @abstractmethod
    def mark_used(self, digest: str) -> None:
        """`digest` is in the tier and was used now."""

    def mark_victim(self, digest: str) -> None:  # noqa: B027
        """`digest` is about to leave for want of room, and not of its own accord."""

    @abstractmethod
    def remove(self, digest: str) -> None:
        """`digest` has left the tier."""

    @abstractmethod
    def victims(self) -> Iterator[str]:
        """Digests of the tier, the one to lose first first; they may leave while they are told."""


class LeastRecentlyUsed(EvictionPolicy):
    def __init__(self) -> None:
        self._order: OrderedDict[str, None] = OrderedDict()

    def insert(self, digest: str, num_bytes: int, cost: float) -> None:  # noqa: ARG002
        self.mark_used(digest)

    def mark_used(self, digest: str) -> None:
        self._order[digest] = None
        self._order.move_to_end(digest)

    def remove(self, digest: str) -> None:
        self._order.pop(digest, None)

    def victims(self) -> Iterator[str]:
        return _in_turn(lambda: iter(self._order))


@dataclass(slots=True)
class _Worth:
    num_bytes: int
    cost: float
    num_uses: int = 0
    priority: float = 0.0
    order: int = 0
    """Of the last use; the older of two equals goes first."""


_FEW = 16

_Place = tuple[float, int, str]
"""Priority, order of the last use, digest."""


class GreedyDualSizeFrequency(EvictionPolicy):
    """Keeps what is popular, dear to bring back, and small (GDSF).

    Priority = clock + uses * cost / bytes; the clock is the priority of the last victim, so that
    what is not used any more is overtaken by what comes. L. Cherkasova, "Improving WWW Proxies
    Performance with Greedy-Dual-Size-Frequency Caching Policy", HPL-98-69R1, 1998.
    """

    def __init__(self) -> None:
        self._clock = 0.0
        self._entries: dict[str, _Worth] = {}
        self._queue: list[_Place] = []
        """Of all entries, in order."""
        self._orders = itertools.count()

    def insert(self, digest: str, num_bytes: int, cost: float) -> None:
        self._entries[digest] = _Worth(max(1, num_bytes), cost)
        self._queue_up(digest)
        self.mark_used(digest)

    def set_cost(self, digest: str, cost: float) -> None:
        self._leave_queue(digest)
        self._entries[digest].cost = cost
        self._queue_up(digest)

    def mark_used(self, digest: str) -> None:
        self._leave_queue(digest)
        entry = self._entries[digest]
        entry.num_uses += 1
        entry.order = next(self._orders)
        self._queue_up(digest)

    def mark_victim(self, digest: str) -> None:
        self._clock = max(self._clock, self._entries[digest].priority)

    def remove(self, digest: str) -> None:
        if digest in self._entries:
            self._leave_queue(digest)
            del self._entries[digest]

    def victims(self) -> Iterator[str]:
        return _in_turn(lambda: (digest for _, _, digest in self._queue))

    def _queue_up(self, digest: str) -> None:
        entry = self._entries[digest]
        entry.priority = self._clock + entry.num_uses * entry.cost / entry.num_bytes
        insort(self._queue, (entry.priority, entry.order, digest))

    def _leave_queue(self, digest: str) -> None:
        entry = self._entries[digest]
        del self._queue[bisect_left(self._queue, (entry.priority, entry.order, digest))]


def _in_turn(queue: Callable[[], Iterator[str]]) -> Iterator[str]:
    """Of a queue that changes meanwhile. A full tier is asked at every load, and most often the
    first few are enough: not even a copy of all is made before they are not."""
    first = tuple(itertools.islice(queue(), _FEW))
    yield from first
    yield from [one for one in queue() if one not in first]


POLICIES: dict[str, Callable[[], EvictionPolicy]] = {
    "gdsf": GreedyDualSizeFrequency,
    "lru": LeastRecentlyUsed,
}


def eviction_policy(name: str) -> EvictionPolicy:
    """Raises `KeyError` with the known names when `name` is not one of them."""
    if name not in POLICIES:
        raise KeyError(f"unknown eviction policy {name!r}; known: {', '.join(sorted(POLICIES))}")
    return POLICIES[name]()
