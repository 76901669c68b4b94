"""Which versions stay in host memory, because the names that lead to them are pinned."""

from collections.abc import Callable, Mapping, Sequence

import structlog

from service.adapters.history import NameHistory
from service.adapters.operations import Move
from service.adapters.pin_room import PinRoom
from service.adapters.registry import AdapterRegistry
from service.adapters.store import AdapterStore
from service.core import AdapterRef
from service.errors import PinLimitExceeded
from service.tenancy import bare_name, tenant_of

log = structlog.get_logger(__name__)

SizeOf = Callable[[str], int | None]
"""Bytes in memory of a digest; None when its content is damaged."""


class PinBoard:
    """A pinned name holds its current version and every version that its aliases lead to.

    Nobody may pin beyond the budget, nor a tenant beyond its share. Where names have moved to
    larger versions since, those are held that lead to what they led to, and of the others the first
    in the order of the alphabet as long as they fit. A restart knows only the alphabet.
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
        self._held: Mapping[str, frozenset[str]] = {}
        """Digests by name. Replaced, never changed: a thread may look."""
        self.revision = 0
        """Grows when other content is held, or for other names."""

    def note(self, name: str) -> None:
        """The name is what it is now: moved, pinned, unpinned, deleted."""
        is_pinned = self._store.history(name).pinned
        if not is_pinned and name not in self._names:
            return
        (self._names.add if is_pinned else self._names.discard)(name)
        refs, held = self._fitting()
        for lost in sorted((self._held.keys() & self._names) - held.keys()):
            log.warning("pin_over_limit", adapter=lost, limit_bytes=self._budget)
        is_news = held != self._held
        self._held = held
        self.revision += is_news  # Last: a thread that sees it sees what it stands for.
        self._pin(refs)

    def is_held(self, name: str) -> bool:
        return name in self._held

    def holds(self, name: str, digest: str) -> bool:
        """Whether this content is held for the sake of this name."""
        return digest in self._held.get(name, ())

    def check(self, name: str, history: NameHistory, move: Move | None) -> None:
        """Raises `PinLimitExceeded` when this move pins more than there is room for."""
        if move is None or not move.pinned:
            return
        room = PinRoom(self._budget)
        for other in self._held.keys() - {name}:
            room.take(tenant_of(other), _sizes(self._registry.reachable(other)))
        digests = {history.versions[number].digest for number in _pointed(history, move)}
        wanted = {digest: self._size_of(digest) or 0 for digest in digests}
        limit = room.exceeded(tenant_of(name), wanted)
        if limit is not None:
            whose = " of one tenant" if limit != self._budget else ""
            raise PinLimitExceeded(
                f"Pinned adapters{whose} may take {limit:,} bytes of host memory in all, and the"
                f" {room.more(tenant_of(name), wanted):,} that {bare_name(name)!r} needs with its"
                " aliases are not left of it."
            )

    def _fitting(self) -> tuple[list[AdapterRef], dict[str, frozenset[str]]]:
        room = PinRoom(self._budget)
        refs: dict[str, AdapterRef] = {}
        held = {}
        needs = {name: self._registry.reachable(name) for name in self._names}
        for name in sorted(needs, key=lambda one: (self._rank(one, needs[one]), one)):
            sizes = _sizes(needs[name])
            if room.exceeded(tenant_of(name), sizes) is None:
                room.take(tenant_of(name), sizes)
                refs |= {ref.digest: ref for ref in needs[name]}
                held[name] = frozenset(sizes)
        return list(refs.values()), held

    def _rank(self, name: str, needed: Sequence[AdapterRef]) -> int:
        """One name's growth takes nothing from a name that is held."""
        if name not in self._held:
            return 2
        return int(not self._held[name].issuperset(ref.digest for ref in needed))


def _sizes(refs: Sequence[AdapterRef]) -> dict[str, int]:
    return {ref.digest: ref.compiled_bytes for ref in refs}


def _pointed(history: NameHistory, move: Move) -> set[int]:
    """Numbers that the name and its aliases lead to after `move`."""
    aliases = history.aliases | dict(move.aliases)
    numbers = {number for shares in aliases.values() for number, _ in shares}
    current = history.current if move.current is None else move.current
    return numbers if current is None else numbers | {current}
