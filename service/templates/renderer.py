"""Renders chat templates that clients uploaded, on the event loop's behalf but never on it."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from service.errors import InvalidRequest, Overloaded
from service.templates.limits import RenderLimits
from service.templates.worker import TemplateFailed, TemplateWorker, WorkerUnavailable


@dataclass(slots=True)
class _Turn:
    places: asyncio.Semaphore
    num_users: int = 0


class TemplateRenderer:
    """A few worker processes, started when they are first needed.

    A template is rendered by one of them at a time, so that one that burns its time on every
    request slows down its own adapter and leaves the other workers to the other adapters. And all
    templates of one owner together leave a worker to the other owners.
    """

    def __init__(self, limits: RenderLimits | None = None) -> None:
        self._limits = limits or RenderLimits()
        self._idle = [TemplateWorker(self._limits) for _ in range(self._limits.num_workers)]
        """Used last, taken first; a thread of the pool holds the one that it took from here."""
        self._threads = ThreadPoolExecutor(self._limits.num_workers, thread_name_prefix="templates")
        self._turns: dict[tuple[str, ...], _Turn] = {}
        """By owner, and by owner and template."""

    async def render(
        self, owner: str, key: str, template: str, variables: Mapping[str, Any]
    ) -> str:
        """`owner` is the tenant whose adapter brought the template, `key` the same for the same
        template. Raises `InvalidRequest` or `Overloaded`."""
        await self._take((owner, key), 1)
        try:
            await self._take((owner,), max(1, self._limits.num_workers - 1))
        except BaseException:
            self._give_back((owner, key))
            raise
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._threads, self._render, template, variables)
        # A thread cannot be stopped, so the turn lasts as long as the job, whoever still waits.
        job.add_done_callback(lambda job: self._end(job, owner, key))
        try:
            return await asyncio.shield(job)
        except TemplateFailed as error:
            raise InvalidRequest(f"The adapter's chat template {error}.", "messages") from None
        except WorkerUnavailable:
            raise Overloaded("Chat templates of adapters cannot be rendered now.", 5) from None

    async def close(self) -> None:
        """Waits for what is being rendered, which the limits bound."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for worker in self._idle:
            worker.close()

    def _render(self, template: str, variables: Mapping[str, Any]) -> str:
        worker = self._idle.pop()
        try:
            return worker.render(template, variables)
        finally:
            self._idle.append(worker)

    async def _take(self, name: tuple[str, ...], num_places: int) -> None:
        turn = self._turns.setdefault(name, _Turn(asyncio.Semaphore(num_places)))
        if turn.num_users > self._limits.max_waiting:
            raise Overloaded("Too many chat requests wait for this adapter's chat template.")
        turn.num_users += 1
        try:
            await turn.places.acquire()
        except BaseException:
            self._leave(name)
            raise

    def _end(self, job: "asyncio.Future[str]", owner: str, key: str) -> None:
        if not job.cancelled():
            job.exception()  # so that nobody is told of one that nobody waits for any more
        self._give_back((owner,))
        self._give_back((owner, key))

    def _give_back(self, name: tuple[str, ...]) -> None:
        self._turns[name].places.release()
        self._leave(name)

    def _leave(self, name: tuple[str, ...]) -> None:
        self._turns[name].num_users -= 1
        if self._turns[name].num_users == 0:
            del self._turns[name]
