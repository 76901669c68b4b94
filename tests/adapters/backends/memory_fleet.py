"""What joins replicas, in one process: announcements and a mirror that can be cut off and lost."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from service.adapters.backends.announcements import Announcement
from service.adapters.backends.records import Record
from service.errors import StoreUnavailable


@dataclass
class Exchange:
    """Stands where Redis stands. Event loop and threads of one process."""

    is_up: bool = True
    listeners: "list[MemoryAnnouncements]" = field(default_factory=list)
    logs: dict[str, list[str]] = field(default_factory=dict)

    def cut(self) -> None:
        self.is_up = False

    def heal(self, *, is_empty: bool = False) -> None:
        if is_empty:
            self.logs.clear()
        self.is_up = True
        for one in self.listeners:
            one.deliver(None)

    def check(self) -> None:
        if not self.is_up:
            raise StoreUnavailable("The exchange is away.")


class MemoryAnnouncements:
    """Of one replica: as long as it is `deaf`, what is announced is lost on it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._queue: asyncio.Queue[Announcement | None] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_deaf = False
        exchange.listeners.append(self)

    @property
    def is_up(self) -> bool:
        return self._exchange.is_up

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return self._loop is not None

    def announce(self, announcement: Announcement) -> None:
        self._exchange.check()
        for one in tuple(self._exchange.listeners):
            one.deliver(announcement)

    def deliver(self, announcement: Announcement | None) -> None:
        if self._loop is not None and not self._loop.is_closed() and not self.is_deaf:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, announcement)

    def leave(self) -> None:
        self._exchange.listeners.remove(self)

    async def listen(self) -> AsyncIterator[Announcement | None]:
        self._loop = asyncio.get_running_loop()
        yield None
        while True:
            yield await self._queue.get()


class MemoryMirror:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def read_all(self, prefix: str) -> Mapping[str, Sequence[Record]]:
        self._exchange.check()
        return {
            log.removeprefix(f"{prefix}/"): [json.loads(one) for one in records]
            for log, records in self._exchange.logs.items()
            if log.startswith(f"{prefix}/")
        }

    def append(self, log: str, number: int, record: Record) -> None:
        self._exchange.check()
        if len(self._exchange.logs.get(log, [])) == number:
            self._exchange.logs.setdefault(log, []).append(json.dumps(record))

    def put(self, log: str, records: Sequence[Record]) -> None:
        self._exchange.check()
        self._exchange.logs[log] = [json.dumps(one) for one in records]

    def drop(self, log: str) -> None:
        self._exchange.check()
        self._exchange.logs.pop(log, None)
