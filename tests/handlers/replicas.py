"""Replicas in one process, over one folder: real stores, uploads that cost nothing, and an exchange
that can be cut off and lost. A replica may also die in the middle of a change."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from service.adapters.backends.fleet_logs import FleetLogs
from service.adapters.backends.folder_store import folder_backends
from service.adapters.backends.records import Record, RecordLogs
from service.handlers.access import Access
from service.handlers.audit import AuditLog
from service.handlers.follower import Follower
from tests.adapters.backends.memory_fleet import Exchange, MemoryAnnouncements, MemoryMirror
from tests.adapters.house import House
from tests.fakes import base_description
from tests.fuzz.app import HashCompiler
from tests.handlers.cheap import folder

RETENTION_S = 86400.0


class Killed(BaseException):
    """The process ends here."""


class MortalLogs:
    """The store's logs, until the process that writes there dies: before the record is written, or
    after that and before anybody is told."""

    def __init__(self, logs: RecordLogs) -> None:
        self._logs = logs
        self.dies: str | None = None
        """`before` or `after` the next record."""
        self.is_dead = False

    def names(self, prefix: str) -> list[str]:
        return self._logs.names(prefix)

    def lengths(self, prefix: str) -> dict[str, int]:
        return self._logs.lengths(prefix)

    def read(self, log: str, start: int = 0) -> list[Record]:
        return self._logs.read(log, start)

    def append(self, log: str, number: int, record: Record) -> None:
        if self.is_dead or self.dies == "before":
            self._die()
        self._logs.append(log, number, record)
        if self.dies == "after":
            self._die()

    def _die(self) -> None:
        self.is_dead = True
        raise Killed


class Replica:
    def __init__(self, root: Path, name: str, exchange: Exchange, poll_s: float) -> None:
        self.name, self.exchange = name, exchange
        self._made = root.parent / "made"
        backends = folder_backends(root, name)
        self.mortal = MortalLogs(backends.logs)
        self.announcements = MemoryAnnouncements(exchange)
        self._hold = backends.hold
        logs = FleetLogs(self.mortal, MemoryMirror(exchange), self.announcements)
        self.logs = logs
        self.house = House(
            root,
            base_description(),
            compiler=HashCompiler(),
            deleted_retention_s=RETENTION_S,
            backends=replace(backends, logs=logs),
            may_change=self._may_change,
        )
        self.adapters = self.house.service
        audit = AuditLog(logs)
        self.access = Access.over(logs, audit, (), self.house.store, may_change=self._may_change)
        followed = (self.access.tenants, self.access.keys, self.adapters.following)
        self.follower = Follower(logs, self.announcements, followed, poll_s)

    async def start(self) -> None:
        self._hold.open(is_tidied=False)
        with self.logs.mirrored("journal", "keys", "tenants"):
            self.house.store.open()
            await self.access.start()
        await self.adapters.start()
        await self.follower.start()

    async def close(self) -> None:
        await self.follower.close()
        await self.access.close()
        await self.adapters.close()
        self.announcements.leave()

    async def kill(self) -> None:
        """What a kernel ends and releases, and nothing of what a shutdown does."""
        self.mortal.is_dead = True
        self.announcements.leave()
        await self.follower.close()
        await self.adapters.expiry.close()
        await self.adapters.deletions.close()
        hold = self.house.store._hold
        os.close(hold._scratch._lock)
        hold._scratch._lock = -1  # its folder stays behind
        hold.close()

    async def publish(self, name: str, number: int) -> int:
        """The version that content `number` is under the name."""
        result = await self.house.publish(name, folder(self._made, number))
        return result.version.number

    def revision(self, name: str) -> int:
        """Changes of the name that requests see."""
        return self.adapters._directory.revisions.get(name, 0)

    async def knows(self, name: str, revision: int) -> None:
        async with asyncio.timeout(30):
            while self.revision(name) < revision:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def _may_change(self) -> bool:
        return self.announcements.is_up


async def settle(replicas: Sequence[Replica]) -> None:
    """Until each knows all that the store has."""
    truth = replicas[0].logs
    async with asyncio.timeout(30):
        for one in replicas:
            followed = (one.access.tenants, one.access.keys, one.adapters.following)
            for shown in followed:
                while any(  # noqa: ASYNC110
                    shown.lengths().get(name, 0) < length
                    for name, length in truth.lengths(shown.folder).items()
                ):
                    await asyncio.sleep(0.002)
