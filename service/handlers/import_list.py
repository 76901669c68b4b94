"""The imports that can be asked for: those of this process, and what others tell of theirs."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from service.adapters.backends.import_board import ImportBoard, Notice
from service.errors import StoreUnavailable
from service.handlers.background import Background
from service.handlers.import_views import INTERRUPTED, ImportState, ImportView

MAX_KEPT = 100
"""Imports of a tenant that are over and still told of."""

_BEAT_S = 2.0


@dataclass(eq=False, slots=True)
class Import:
    """Of this process."""

    view: ImportView
    scheme: str
    task: "asyncio.Task[None] | None" = None
    is_stopping: bool = False
    is_told: bool = False
    """Whether the others know how it has ended."""

    def stop(self) -> None:
        """Not at once: a task that is cancelled before its first step never learns of it. And only
        once, however often it is asked for: the task cleans up after the first time."""
        asyncio.get_running_loop().call_soon(self._cancel)

    def _cancel(self) -> None:
        if self.task is None or self.is_stopping or not self.view.state.is_stoppable:
            return
        self.is_stopping = True
        self.task.cancel()


class ImportList:
    def __init__(
        self, board: ImportBoard, kept_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._board = board
        self._kept_s = kept_s
        self._clock = clock
        self._own: dict[str, Import] = {}
        """In the order in which they began."""
        self._telling = asyncio.Lock()
        self._background = Background()

    async def start(self) -> None:
        self._background.start(self._beat())

    async def close(self) -> None:
        await self._background.stop()

    def add(self, one: Import) -> None:
        self._own[one.view.id] = one

    def own(self, import_id: str) -> Import | None:
        return self._own.get(import_id)

    def running(self) -> Iterator[Import]:
        return (one for one in self._own.values() if not one.view.state.is_over)

    async def find(self, import_id: str) -> ImportView | None:
        """Raises `StoreUnavailable` if only another replica may know it."""
        if one := self._own.get(import_id):
            return one.view
        if not import_id.isalnum():  # it would be another key of the board
            return None
        notice = await self._board.get(import_id)
        return None if notice is None else _view(notice)

    async def of_tenant(self, tenant: str) -> Sequence[ImportView]:
        """The latest first."""
        found = {view.id: view for view in map(_view, await self._board.of_tenant(tenant))}
        found |= {one.view.id: one.view for one in self._own.values() if one.view.tenant == tenant}
        return sorted(found.values(), key=lambda view: (-view.created_at, view.id))

    async def ask_to_stop(self, import_id: str) -> None:
        """One of another replica."""
        await self._board.ask_to_stop(import_id)

    async def tell(self, one: Import) -> bool:
        """Whether somebody asks to stop it. One after the other, so that the last is the latest."""
        async with self._telling:
            view = one.view
            with suppress(StoreUnavailable):
                is_unwanted = await self._board.tell(view.id, view.tenant, view.to_json())
                one.is_told = view.state.is_over
                return is_unwanted
            return False

    def forget_old(self) -> None:
        horizon, num_kept = self._clock() - self._kept_s, dict[str, int]()
        for one in reversed(list(self._own.values())):
            view = one.view
            if view.finished_at is None:
                continue
            num_kept[view.tenant] = num_kept.get(view.tenant, 0) + 1
            if num_kept[view.tenant] > MAX_KEPT or view.finished_at < horizon:
                del self._own[view.id]

    async def _beat(self) -> None:
        """The others know that this process lives, and what they asked it to stop is stopped."""
        while True:
            await asyncio.sleep(_BEAT_S)
            self.forget_old()
            for one in list(self._own.values()):
                if not one.is_told and await self.tell(one):
                    one.stop()


def _view(notice: Notice) -> ImportView:
    """What its replica had left unfinished when it died has come to nothing."""
    view = ImportView.from_json(notice.record)
    if view.state.is_over or notice.is_alive:
        return view
    return replace(view, state=ImportState.FAILED, failure=INTERRUPTED)
