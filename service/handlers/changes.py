"""How a change of adapters runs: its disk work in threads, its order under one lock, to its end."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

from service.adapters.backends.fleet_logs import AWAY
from service.errors import StoreUnavailable

_T = TypeVar("_T")
_CLEANUP = "remove adapter content"
_LOOK_EVERY_S = 1.0


def always() -> bool:
    return True


class Changes:
    def __init__(self, num_threads: int, may_change: Callable[[], bool] = always) -> None:
        """`may_change`: whether the other replicas can be told of what is changed now."""
        self.may_change = may_change
        self.lock = asyncio.Lock()
        """Held by whoever changes the store: order, numbers and the registry move together."""
        self._tasks: set[asyncio.Task[object]] = set()
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="adapters")

    async def in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *arguments))

    def from_thread(
        self, change: Callable[..., Coroutine[object, object, _T]]
    ) -> Callable[..., _T]:
        """`change` as work that runs in a thread can call it: it waits for the event loop, but not
        for one that has ended."""
        loop = asyncio.get_running_loop()

        def run(*arguments: object) -> _T:
            future = asyncio.run_coroutine_threadsafe(change(*arguments), loop)
            while not wait({future}, _LOOK_EVERY_S).done:
                if loop.is_closed():
                    raise RuntimeError("the event loop has ended")
            return future.result()

        return run

    def check_allowed(self) -> None:
        """Raises `StoreUnavailable`."""
        if not self.may_change():
            raise StoreUnavailable(AWAY)

    async def allowed(self) -> None:
        """Returns when changes are allowed."""
        while not self.may_change():  # noqa: ASYNC110 (nobody says when)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def change(self, work: Coroutine[object, object, _T]) -> _T:
        """Unless nothing may be changed now: then `StoreUnavailable` is raised."""
        try:
            self.check_allowed()
        except StoreUnavailable:
            work.close()
            raise
        return await self.finish(work)

    async def finish(self, work: Coroutine[object, object, _T]) -> _T:
        """Threads cannot be stopped half way, so neither may what depends on their result."""
        return await asyncio.shield(self._spawn(work))

    def clean_up(self, work: Coroutine[object, object, object]) -> None:
        """Beside everything else; what a shutdown cuts off is done by the next start."""
        self._spawn(work, _CLEANUP)

    async def close(self) -> None:
        """Wait for what has begun, but not for who waits to clean up."""
        while waiting := [task for task in self._tasks if task.get_name() != _CLEANUP]:
            await asyncio.gather(*waiting, return_exceptions=True)
        for task in tuple(self._tasks):
            task.cancel()
        self._threads.shutdown(wait=True)

    async def settled(self) -> None:
        """Returns when nothing runs any more, not even a clean-up."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _spawn(
        self, work: Coroutine[object, object, _T], name: str | None = None
    ) -> "asyncio.Task[_T]":
        task: asyncio.Task[_T] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
