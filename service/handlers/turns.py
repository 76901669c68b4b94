"""Whose turn it is at something that only so many can use at once: fair between tenants.

Each tenant that waits gets one turn in its round, however many it waits for.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

_T = TypeVar("_T")


class RoundRobin(Generic[_T]):
    """Waiting items by tenant. A tenant that has had its turn goes behind all that wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[_T]] = {}
        """In the order of turns; no tenant without items."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, tenant: str, item: _T) -> None:
        self._waiting.setdefault(tenant, deque()).append(item)

    def pop(self) -> _T:
        tenant = next(iter(self._waiting))
        items = self._waiting.pop(tenant)
        item = items.popleft()
        if items:
            self._waiting[tenant] = items
        return item

    def remove(self, tenant: str, item: _T) -> bool:
        """False when it does not wait any more."""
        items = self._waiting.get(tenant, deque())
        if item not in items:
            return False
        items.remove(item)
        if not items:
            del self._waiting[tenant]
        return True


class Turns:
    """A semaphore on the event loop, so that who waits takes no thread."""

    def __init__(self, num_at_once: int) -> None:
        self._num_free = num_at_once
        self._waiting: RoundRobin[asyncio.Future[None]] = RoundRobin()

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[None]:
        await self._take(tenant)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, tenant: str) -> None:
        if self._num_free:
            self._num_free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.push(tenant, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(tenant, turn)
            else:
                self._give_back()  # it was given the turn and is gone before it knew
            raise

    def _give_back(self) -> None:
        """Handed on at once: nobody who comes now overtakes those who wait."""
        while self._waiting:
            turn = self._waiting.pop()
            if not turn.cancelled():  # its task may not have run since
                turn.set_result(None)
                return
        self._num_free += 1
