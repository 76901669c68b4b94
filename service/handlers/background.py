"""A loop that runs beside everything else, from the start of a use case to its end."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress


class Background:
    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, loop: Coroutine[None, None, None]) -> None:
        self._task = asyncio.create_task(loop)

    async def stop(self) -> None:
        """Returns when it has ended; nothing to do when it never began."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
