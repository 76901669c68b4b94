"""What operators do beside the load, each with names of its own."""

import asyncio
import random
from pathlib import Path

from tests.fleet.answers import SMALL_TASKS, content
from tests.fleet.changes import Changes, NotDone
from tests.fleet.load import Catalog


class Operators:
    def __init__(self, changes: Changes, catalog: Catalog, work: Path, pause_s: float) -> None:
        self._changes, self._catalog = changes, catalog
        self._work, self._pause_s = work, pause_s
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False

    def start(self, count: int) -> None:
        self._tasks = [asyncio.create_task(self._operator(one)) for one in range(count)]

    async def stop(self) -> None:
        """After the changes that are under way."""
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def _operator(self, number: int) -> None:
        draw = random.Random(f"operator {number}")
        contested = f"contested-{number}"
        try:
            for version in (1, 2):
                await self._publish(contested, "roman", 2 * number + version)
            turn = 0
            while not self._is_over:
                turn += 1
                await self._turn(f"{number}-{turn}", draw.choice(SMALL_TASKS), draw)
                await self._changes.race(contested, turn)
                await self._changes.make_key(revoke=turn % 2 == 0)
                await asyncio.sleep(self._pause_s)
        except NotDone as error:
            self._changes.problems.append(str(error))

    async def _turn(self, turn: str, task: str, draw: random.Random) -> None:
        """A name that stays and is used, with an alias that moves; and one that goes."""
        name, gone = f"new-{turn}", f"gone-{turn}"
        first = await self._publish(name, task, draw.getrandbits(60))
        await self._changes.move(name, "stable", first)
        self._catalog.add(name, task)
        self._catalog.add(f"{name}@stable", task)
        second = await self._publish(name, task, draw.getrandbits(60))
        await self._changes.move(name, "stable", second)
        await self._publish(gone, task, draw.getrandbits(60))
        await self._changes.delete(gone)

    async def _publish(self, name: str, task: str, number: int) -> int:
        files = await asyncio.to_thread(content, task, number, self._work)
        return await self._changes.publish(name, files)
