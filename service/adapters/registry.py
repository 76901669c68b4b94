"""Which names can be used right now, and which versions are in use.

Lives on the event loop and never waits, so looking a name up and counting its use are one step.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

from service.adapters.naming import Selector, parse_selector
from service.core import AdapterRef
from service.errors import ModelNotFound


class AdapterRegistry:
    def __init__(self) -> None:
        self._versions: dict[str, dict[int, AdapterRef]] = {}
        self._current: dict[str, AdapterRef] = {}
        self._uses: Counter[str] = Counter()
        self._drained: dict[str, asyncio.Event] = {}

    def register(self, name: str, versions: Mapping[int, AdapterRef], current: int) -> None:
        """Replace all that is known of a name; requests in flight keep what they acquired."""
        self._versions[name] = dict(versions)
        self._current[name] = versions[current]

    def unregister(self, name: str) -> None:
        self._versions.pop(name, None)
        self._current.pop(name, None)

    def names(self) -> list[str]:
        return sorted(self._current)

    def current(self, name: str) -> AdapterRef | None:
        return self._current.get(name)

    def resolve(self, model: str) -> AdapterRef:
        """Raises `ModelNotFound`."""
        selector = parse_selector(model)
        ref = None if selector is None else self._find(selector)
        if ref is None:
            raise ModelNotFound(model)
        return ref

    def acquire(self, model: str) -> AdapterRef:
        """Bind a request to the version that `model` names now. Raises `ModelNotFound`."""
        ref = self.resolve(model)
        self._uses[ref.digest] += 1
        return ref

    def release(self, ref: AdapterRef) -> None:
        self._uses[ref.digest] -= 1
        if self._uses[ref.digest] <= 0:
            del self._uses[ref.digest]
            if event := self._drained.pop(ref.digest, None):
                event.set()

    def in_use(self, digest: str) -> int:
        return self._uses[digest]

    async def drain(self, digest: str) -> None:
        """Wait until no request is bound to the version; a name may still lead to it."""
        while self.in_use(digest):
            await self._drained.setdefault(digest, asyncio.Event()).wait()

    def _find(self, selector: Selector) -> AdapterRef | None:
        versions = self._versions.get(selector.name, {})
        if selector.number is not None:
            return versions.get(selector.number)
        if selector.digest_prefix is not None:
            prefix = selector.digest_prefix
            found = [ref for ref in versions.values() if ref.digest.startswith(prefix)]
            return found[0] if len(found) == 1 else None
        if selector.alias is not None:
            return None
        return self._current.get(selector.name)
