"""Names whose time is over are deleted, as anybody could have deleted them."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf

import structlog

from service.adapters.store import AdapterStore
from service.errors import StoreUnavailable
from service.handlers.background import Background
from service.handlers.changes import Changes
from service.handlers.deletions import DeletionService

MIN_SLEEP_S = 0.05
MAX_SLEEP_S = 60.0
"""The clock may be set; nothing else makes a name expire earlier than was known."""

_RETRY_S = 1.0
"""Until a name whose deletion failed is tried again."""

log = structlog.get_logger(__name__)


class ExpiryService:
    """Requests do not depend on it: the registry knows when a name has ended."""

    def __init__(
        self,
        store: AdapterStore,
        deletions: DeletionService,
        changes: Changes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._deletions = deletions
        self._changes = changes
        self._clock = clock
        self._ends: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._background = Background()

    async def start(self) -> None:
        self._background.start(self._run())

    async def close(self) -> None:
        await self._background.stop()

    def note(self, name: str) -> None:
        """The name is what it is now."""
        expires_at = self._store.history(name).expires_at
        if expires_at is not None:
            self._ends[name] = expires_at
            self._changed.set()
        else:
            self._ends.pop(name, None)

    async def sweep(self, now: float) -> list[str]:
        """The names that were deleted because they ended before `now` (unix seconds)."""
        over = [name for name, end in sorted(self._ends.items()) if end <= now]
        deleted = []
        for name in over:
            try:
                if await self._deletions.delete_expired(name, now):
                    log.info("adapter_expired", adapter=name)
                    deleted.append(name)
            except StoreUnavailable:
                break
            except Exception:
                # Not a reason to keep the others, nor to end for good: nobody is served meanwhile.
                log.exception("expiry_failed", adapter=name)
        return deleted

    async def _run(self) -> None:
        while True:
            await self._changes.allowed()
            self._changed.clear()
            now = self._clock()
            await self.sweep(now)
            if min(self._ends.values(), default=inf) <= now:
                await asyncio.sleep(_RETRY_S)
            with suppress(TimeoutError):
                # Not `wait_for`, which may swallow a cancellation (in Python 3.11).
                async with asyncio.timeout(self._seconds_to_next()):
                    await self._changed.wait()

    def _seconds_to_next(self) -> float:
        left = min(self._ends.values(), default=inf) - self._clock()
        return min(max(left, MIN_SLEEP_S), MAX_SLEEP_S)
