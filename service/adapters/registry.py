"""Which names can be used right now, and which versions are in use.

Lives on the event loop and never waits, so looking a name up and counting its use are one step.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from service.adapters.naming import Selector, parse_selector
from service.adapters.shares import Shares, largest, pick
from service.core import AdapterRef
from service.errors import ModelNotFound
from service.tenancy import PRIVATE, Visibility


class AdapterRegistry:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ends: dict[str, int] = {}
        """Unix seconds from which a name is gone, whoever deletes it when."""
        self._versions: dict[str, dict[int, AdapterRef]] = {}
        self._current: dict[str, AdapterRef] = {}
        self._aliases: dict[str, dict[str, Shares]] = {}
        self._visibility: dict[str, Visibility] = {}
        self._named: dict[str, tuple[AdapterRef, ...]] = {}
        """By digest. The tuples are replaced, never changed."""
        self._num_bytes = 0
        """Of all content that has a name, compiled, each once."""
        self.revision = 0
        """Grows when a name leads elsewhere, comes or goes."""
        self._uses: Counter[str] = Counter()
        self._drained: dict[str, asyncio.Event] = {}

    def register(
        self,
        name: str,
        versions: Mapping[int, AdapterRef],
        current: int,
        aliases: Mapping[str, Shares] | None = None,
        visibility: Visibility = PRIVATE,
    ) -> None:
        """Replace all that is known of a name; requests in flight keep what they acquired."""
        self._index(name, versions)
        self._versions[name] = dict(versions)
        self._current[name] = versions[current]
        self._aliases[name] = dict(aliases or {})
        self._visibility[name] = visibility
        # Last: a thread that sees it sees what it stands for.
        self.revision += 1

    def unregister(self, name: str) -> None:
        self._index(name, {})
        self._versions.pop(name, None)
        self._current.pop(name, None)
        self._aliases.pop(name, None)
        self._visibility.pop(name, None)
        self._ends.pop(name, None)
        self.revision += 1

    def set_end(self, name: str, expires_at: int | None) -> None:
        """Unix seconds from which a registered name is gone; None is never."""
        if expires_at is None:
            self._ends.pop(name, None)
        else:
            self._ends[name] = expires_at

    def is_over(self, name: str) -> bool:
        end = self._ends.get(name)
        return end is not None and end <= self._clock()

    def reachable(self, name: str) -> list[AdapterRef]:
        """Versions that the name or one of its aliases leads to."""
        if name not in self._current:
            return []
        shares = self._aliases[name].values()
        numbers = {number for one in shares for number, _ in one}
        aliased = [ref for number, ref in self._versions[name].items() if number in numbers]
        return [self._current[name], *aliased]

    def named(self, digest: str) -> tuple[AdapterRef, ...]:
        """Every version of every name that has this content.

        This, `written`, `current` and `mean_bytes` may be asked for on any thread.
        """
        return self._named.get(digest, ())

    def written(self, name: str, version: int) -> list[str]:
        """What `model` may say to get this version: the name, aliases, the number in any case.

        An alias with weights is its largest share's. Empty when the version cannot be asked for.
        """
        current = self._current.get(name)
        if current is None or self.is_over(name) or not self.has(name, version):
            return []
        bare = [name] if current.version == version else []
        aliases = self._aliases.get(name, {})
        leading = (one for one in sorted(aliases) if largest(aliases[one]) == version)
        return [*bare, *(f"{name}@{alias}" for alias in leading), f"{name}@{version}"]

    @property
    def mean_bytes(self) -> float:
        """Of a content that can be asked for; 0 while there is none."""
        return self._num_bytes / max(1, len(self._named))

    def names(self) -> list[str]:
        return sorted(ref.name for ref in self.usable())

    def usable(self) -> Iterator[AdapterRef]:
        """What each name leads to; by no order, and not to be kept while names change."""
        return (ref for name, ref in self._current.items() if not self.is_over(name))

    def has(self, name: str, version: int) -> bool:
        return version in self._versions.get(name, {})

    def digests(self, name: str) -> set[str]:
        return {ref.digest for ref in self._versions.get(name, {}).values()}

    def current(self, name: str) -> AdapterRef | None:
        return self._current.get(name)

    def visibility(self, name: str) -> Visibility | None:
        """Who may use it beside its owner; None while it cannot be used."""
        return None if self.is_over(name) else self._visibility.get(name)

    def resolve(self, model: str, key: str | None = None) -> AdapterRef:
        """What `model` names now. Raises `ModelNotFound`.

        Where an alias leads to some by weight, `key` decides; without one, the largest share.
        """
        selector = parse_selector(model)
        ref = None if selector is None else self._find(selector, key)
        if ref is None:
            raise ModelNotFound(model)
        return ref

    def acquire(self, model: str, key: str | None = None) -> AdapterRef:
        """Bind a request to the version that `model` names now. Raises `ModelNotFound`."""
        ref = self.resolve(model, key)
        self.hold(ref)
        return ref

    def hold(self, ref: AdapterRef) -> None:
        """Count a use of content that no name need lead to (yet), until `release`."""
        self._uses[ref.digest] += 1

    def release(self, ref: AdapterRef) -> None:
        self._uses[ref.digest] -= 1
        if self._uses[ref.digest] <= 0:
            del self._uses[ref.digest]
            if event := self._drained.pop(ref.digest, None):
                event.set()

    def in_use(self, digest: str) -> int:
        return self._uses[digest]

    def digests_in_use(self) -> frozenset[str]:
        return frozenset(self._uses)

    async def drain(self, digest: str) -> None:
        """Wait until no request is bound to the version; a name may still lead to it."""
        while self.in_use(digest):
            await self._drained.setdefault(digest, asyncio.Event()).wait()

    def _index(self, name: str, versions: Mapping[int, AdapterRef]) -> None:
        """Costs as much as has changed of the versions."""
        before, after = set(self._versions.get(name, {}).values()), set(versions.values())
        for ref in before - after:
            left = tuple(one for one in self._named[ref.digest] if one != ref)
            if left:
                self._named[ref.digest] = left
            else:
                del self._named[ref.digest]
                self._num_bytes -= ref.compiled_bytes
        for ref in after - before:
            self._num_bytes += 0 if ref.digest in self._named else ref.compiled_bytes
            self._named[ref.digest] = (*self._named.get(ref.digest, ()), ref)

    def _find(self, selector: Selector, key: str | None) -> AdapterRef | None:
        if self.is_over(selector.name):
            return None
        versions = self._versions.get(selector.name, {})
        if selector.number is not None:
            return versions.get(selector.number)
        if selector.digest_prefix is not None:
            prefix = selector.digest_prefix
            found = [ref for ref in versions.values() if ref.digest.startswith(prefix)]
            return found[0] if len(found) == 1 else None
        if selector.alias is not None:
            shares = self._aliases.get(selector.name, {}).get(selector.alias)
            number = None if shares is None else _choose(shares, selector, key)
            return None if number is None else versions.get(number)
        return self._current.get(selector.name)


def _choose(shares: Shares, selector: Selector, key: str | None) -> int:
    """Salted with the alias, so that the few of one canary are not the few of every other."""
    if key is None:
        return largest(shares)
    return pick(shares, f"{selector.name}@{selector.alias}\n{key}")
