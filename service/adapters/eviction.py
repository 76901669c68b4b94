"""Who leaves a full tier. A policy orders digests; who may leave is the caller's business."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator


class EvictionPolicy(ABC):
    @abstractmethod
    def mark_used(self, digest: str) -> None:
        """`digest` is in the tier and was used now."""

    @abstractmethod
    def remove(self, digest: str) -> None:
        """`digest` has left the tier."""

    @abstractmethod
    def victims(self) -> Iterator[str]:
        """Digests of the tier, the one to lose first first."""


class LeastRecentlyUsed(EvictionPolicy):
    def __init__(self) -> None:
        self._order: OrderedDict[str, None] = OrderedDict()

    def mark_used(self, digest: str) -> None:
        self._order[digest] = None
        self._order.move_to_end(digest)

    def remove(self, digest: str) -> None:
        self._order.pop(digest, None)

    def victims(self) -> Iterator[str]:
        return iter(tuple(self._order))


POLICIES: dict[str, Callable[[], EvictionPolicy]] = {"lru": LeastRecentlyUsed}


def eviction_policy(name: str) -> EvictionPolicy:
    """Raises `KeyError` with the known names when `name` is not one of them."""
    if name not in POLICIES:
        raise KeyError(f"unknown eviction policy {name!r}; known: {', '.join(sorted(POLICIES))}")
    return POLICIES[name]()
