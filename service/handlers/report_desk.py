"""Reads reports on a thread of their own, so that no flood of them holds up prompts or changes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from service.errors import Overloaded

MAX_WAITING = 8
"""Reports of one asker behind the one that is read."""

T = TypeVar("T")


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    num_users: int = 0


class ReportDesk:
    """Of each asker one report at a time stands in the line, so that whoever asks for many waits
    behind the others."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reports")
        self._turns: dict[str | None, _Turn] = {}

    @asynccontextmanager
    async def turn(self, asker: str | None) -> AsyncIterator[None]:
        """`asker` is a tenant; None asks for everybody's. Raises `Overloaded`."""
        turn = self._turns.setdefault(asker, _Turn())
        if turn.num_users > MAX_WAITING:
            raise Overloaded("Too many reports of this tenant are waited for.")
        turn.num_users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.num_users -= 1
            if turn.num_users == 0:
                del self._turns[asker]

    async def read(self, work: Callable[[], T]) -> T:
        """Within a turn. A thread cannot be stopped, so a cancelled caller waits for it, and its
        turn lasts as long."""
        job = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait({job})
            raise
