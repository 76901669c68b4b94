"""`Announcements` within one process: between replicas of a test, or to nobody."""

import asyncio
import threading
from collections.abc import AsyncIterator

from service.adapters.backends.announcements import Announcement
from service.errors import StoreUnavailable

_Ear = tuple[asyncio.AbstractEventLoop, "asyncio.Queue[Announcement | None]"]


class MemoryAnnouncements:
    """Shared by all that are to hear each other."""

    def __init__(self) -> None:
        self._ears: list[_Ear] = []
        self._is_up = True
        self._lock = threading.Lock()

    @property
    def is_up(self) -> bool:
        return self._is_up

    def announce(self, announcement: Announcement) -> None:
        if not self._is_up:
            raise StoreUnavailable("Nobody can be told.")
        self._tell(announcement)

    async def listen(self) -> AsyncIterator[Announcement | None]:
        queue: asyncio.Queue[Announcement | None] = asyncio.Queue()
        ear = (asyncio.get_running_loop(), queue)
        queue.put_nowait(None)
        with self._lock:
            self._ears.append(ear)
        try:
            while True:
                yield await queue.get()
        finally:
            with self._lock:
                self._ears.remove(ear)

    def interrupt(self) -> None:
        """Until `mend`, what is announced is refused."""
        self._is_up = False

    def mend(self) -> None:
        self._is_up = True
        self._tell(None)

    def _tell(self, announcement: Announcement | None) -> None:
        with self._lock:
            for loop, queue in self._ears:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(queue.put_nowait, announcement)
