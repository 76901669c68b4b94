"""Which versions stay in host memory, because the names that lead to them are pinned."""

from collections.abc import Callable, Sequence

import structlog

from service.adapters.history import Move, NameHistory
from service.adapters.registry import AdapterRegistry
from service.adapters.store import AdapterStore
from service.core import AdapterRef
from service.errors import PinLimitExceeded
from service.tenancy import bare_name

log = structlog.get_logger(__name__)

SizeOf = Callable[[str], int | None]
"""Bytes in memory of a digest; None when its content is damaged."""


class PinBoard:
    """A pinned name holds its current version and every version that its aliases lead to.

    Nobody may pin beyond the budget. Where names have moved to larger versions since, or the budget
    is another one now, the first names in the order of the alphabet are held as long as they fit.
    """

    def __init__(
        self,
        store: AdapterStore,
        registry: AdapterRegistry,
        size_of: SizeOf,
        pin: Callable[[Sequence[AdapterRef]], object],
        budget_bytes: int | None,
    ) -> None:
        """`pin` tells the engine all that it is to hold; no budget is no bound."""
        self._store = store
        self._registry = registry
        self._size_of = size_of
        self._pin = pin
        self._budget = budget_bytes
        self._names: set[str] = set()
        self._held: frozenset[str] = frozenset()

    def note(self, name: str) -> None:
        """The name is what it is now: moved, pinned, unpinned, deleted."""
        is_pinned = self._store.history(name).pinned
        if not is_pinned and name not in self._names:
            return
        (self._names.add if is_pinned else self._names.discard)(name)
        refs, held = self._fitting()
        for lost in sorted(self._held & self._names - held):
            log.warning("pin_over_limit", adapter=lost, limit_bytes=self._budget)
        self._held = held
        self._pin(refs)

    def is_held(self, name: str) -> bool:
        return name in self._held

    def check(self, name: str, history: NameHistory, move: Move | None) -> None:
        """Raises `PinLimitExceeded` when this move pins more than there is room for."""
        if move is None or not move.pinned or self._budget is None:
            return
        others = {
            ref.digest: ref.compiled_bytes
            for other in self._held - {name}
            for ref in self._registry.reachable(other)
        }
        wanted = {history.versions[number].digest for number in _pointed(history, move)}
        own = sum(self._size_of(digest) or 0 for digest in wanted - others.keys())
        if sum(others.values()) + own > self._budget:
            raise PinLimitExceeded(
                f"Pinned adapters may take {self._budget:,} bytes of host memory in all, and the"
                f" {own:,} that {bare_name(name)!r} needs with its aliases are not left of it."
            )

    def _fitting(self) -> tuple[list[AdapterRef], frozenset[str]]:
        fitting: dict[str, AdapterRef] = {}
        held = set()
        for name in sorted(self._names):
            together = fitting | {ref.digest: ref for ref in self._registry.reachable(name)}
            num_bytes = sum(ref.compiled_bytes for ref in together.values())
            if self._budget is None or num_bytes <= self._budget:
                fitting = together
                held.add(name)
        return list(fitting.values()), frozenset(held)


def _pointed(history: NameHistory, move: Move) -> set[int]:
    """Numbers that the name and its aliases lead to after `move`."""
    aliases = history.aliases | dict(move.aliases)
    numbers = {number for shares in aliases.values() for number, _ in shares}
    current = history.current if move.current is None else move.current
    return numbers if current is None else numbers | {current}
