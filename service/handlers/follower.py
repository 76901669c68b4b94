"""Keeps what this replica knows up with what the others change.

Announcements say which log has grown; they may be lost, late, doubled or in any order. So each is
only a reason to read that log, and a comparison of every log's length, at the start, after every
interruption and now and then, finds what no announcement has told.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from service.adapters.backends.announcements import Announcement, Announcements
from service.adapters.backends.fleet_logs import FleetLogs
from service.errors import StoreUnavailable
from service.handlers.background import Background
from service.handlers.following import Followed

_RETRY_S = 1.0
"""Until what could not be reached is tried again."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class FollowStats:
    """Since the start."""

    num_announcements: int = 0
    num_comparisons: int = 0
    num_failures: int = 0
    """Logs that could not be followed when they had grown."""
    lag_s: float = 0.0
    """Of the last announcement: from its arrival until requests saw what it told."""
    is_store_up: bool = True
    """As of the last look at the store."""


class Follower:
    def __init__(
        self,
        logs: FleetLogs,
        announcements: Announcements,
        followed: Sequence[Followed],
        poll_s: float,
        stats: FollowStats | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`followed` in the order in which they refer to each other."""
        self.stats = stats or FollowStats()
        self._logs = logs
        self._announcements = announcements
        self._followed = {one.folder: one for one in followed}
        self._poll_s = poll_s
        self._clock = clock
        self._arrived: dict[str, tuple[int, float]] = {}
        """Length and time of arrival, by log, of what waits to be followed, oldest first."""
        self._compare_at = 0.0
        """When every log is looked at, whatever is announced; at once, at the start."""
        self._has_looked = asyncio.Event()
        self._news = asyncio.Event()
        self._listening = Background()
        self._following = Background()

    async def start(self) -> None:
        """What it follows is as the store had it at some moment since the process began, and when
        this returns as it was after that, unless the store cannot be reached: nobody is sent here
        before who then asks for what others have long acknowledged."""
        self._listening.start(self._listen_for_ever())
        self._following.start(self._follow_for_ever())
        await self._has_looked.wait()

    async def close(self) -> None:
        await self._listening.stop()
        await self._following.stop()

    async def compare(self) -> None:
        """Bring everything up to what the store has by now. Raises `StoreUnavailable`."""
        self.stats.num_comparisons += 1
        for folder, followed in self._followed.items():
            lengths = await asyncio.to_thread(self._logs.lengths, folder)
            known = followed.lengths()
            for name, length in lengths.items():
                if known.get(name, 0) < length:
                    await self._follow(followed, name, length)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                async for announcement in self._announcements.listen():
                    self._note(announcement)
            except Exception:
                log.exception("listening_failed")
            self._note(None)
            await asyncio.sleep(_RETRY_S)

    def _note(self, announcement: Announcement | None) -> None:
        if announcement is None:
            self._compare_at = self._clock()
        else:
            self.stats.num_announcements += 1
            length, arrived_at = self._arrived.get(announcement.log, (0, self._clock()))
            self._arrived[announcement.log] = (max(length, announcement.length), arrived_at)
        self._news.set()

    async def _follow_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                # Not `wait_for`, which may swallow a cancellation (in Python 3.11).
                async with asyncio.timeout(max(0.0, self._compare_at - self._clock())):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._follow_arrived()
                if self._clock() >= self._compare_at:
                    # Before the look: what interrupts it asks for another one.
                    self._compare_at = self._clock() + self._poll_s
                    await self._compare_again()
                    self._news.set()  # for what arrived meanwhile
            except (StoreUnavailable, OSError) as error:
                self._note_store_away(error)
            except Exception:
                log.exception("following_failed")
                self.stats.num_failures += 1
            self._has_looked.set()

    async def _follow_arrived(self) -> None:
        while self._arrived and self._clock() < self._compare_at:
            name, (length, arrived_at) = next(iter(self._arrived.items()))
            folder, _, rest = name.partition("/")
            followed = self._followed.get(folder)
            if followed is not None and rest:
                await self._follow(followed, rest, length)
                self.stats.lag_s = self._clock() - arrived_at
                if followed.lengths().get(rest, 0) < length:
                    # A file system that shows others' files late, or a log that is damaged.
                    self._compare_at = min(self._compare_at, self._clock() + _RETRY_S)
            if self._arrived[name][0] == length:
                del self._arrived[name]

    async def _compare_again(self) -> None:
        await self.compare()
        self.stats.is_store_up = True
        with suppress(StoreUnavailable):
            await asyncio.to_thread(self._logs.tell_again)

    async def _follow(self, followed: Followed, name: str, length: int) -> None:
        """One log that is damaged keeps none of the others. Raises `StoreUnavailable`."""
        try:
            await followed.follow(name, length)
        except StoreUnavailable:
            raise
        except Exception:
            self.stats.num_failures += 1
            log.exception("log_not_followed", log=f"{followed.folder}/{name}")

    def _note_store_away(self, error: Exception) -> None:
        if self.stats.is_store_up:
            log.warning("store_away", reason=repr(error))
        self.stats.is_store_up = False
        # What was announced is among what the next look finds.
        self._arrived.clear()
        self._compare_at = self._clock() + _RETRY_S
