"""Renders chat templates that clients uploaded, on the event loop's behalf but never on it."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from service.errors import InvalidRequest, Overloaded
from service.templates.limits import RenderLimits
from service.templates.worker import TemplateFailed, TemplateWorker, WorkerUnavailable


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    num_users: int = 0


class TemplateRenderer:
    """A few worker processes, started when they are first needed.

    A template is rendered by one of them at a time, so that one that burns its time on every
    request slows down its own adapter and leaves the other workers to the other adapters.
    """

    def __init__(self, limits: RenderLimits | None = None) -> None:
        self._limits = limits or RenderLimits()
        self._idle = [TemplateWorker(self._limits) for _ in range(self._limits.num_workers)]
        """Used last, taken first; a thread of the pool holds the one that it took from here."""
        self._threads = ThreadPoolExecutor(self._limits.num_workers, thread_name_prefix="templates")
        self._turns: dict[str, _Turn] = {}

    async def render(self, key: str, template: str, variables: Mapping[str, Any]) -> str:
        """`key` is the same for the same template. Raises `InvalidRequest` or `Overloaded`."""
        turn = self._turns.setdefault(key, _Turn())
        if turn.num_users > self._limits.max_waiting:
            raise Overloaded("Too many chat requests wait for this adapter's chat template.")
        turn.num_users += 1
        try:
            await turn.lock.acquire()
        except BaseException:
            self._leave(key, turn)
            raise
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._threads, self._render, template, variables)
        # A thread cannot be stopped, so the turn lasts as long as the job, whoever still waits.
        job.add_done_callback(lambda job: self._end(job, key, turn))
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

    def _end(self, job: "asyncio.Future[str]", key: str, turn: _Turn) -> None:
        if not job.cancelled():
            job.exception()  # so that nobody is told of one that nobody waits for any more
        turn.lock.release()
        self._leave(key, turn)

    def _leave(self, key: str, turn: _Turn) -> None:
        turn.num_users -= 1
        if turn.num_users == 0:
            del self._turns[key]
