"""The part of the composition root that a process among others differs in from one that is alone:
what it tells the others, what it hears of them, what they count together."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from service.adapters.backends.counters import Counters
from service.adapters.backends.fleet_logs import FleetLogs
from service.adapters.backends.import_board import ImportBoard, NoBoard
from service.adapters.backends.memory_counters import MemoryCounters
from service.adapters.backends.redis.address import parse_address
from service.adapters.backends.redis.announcements import RedisAnnouncements
from service.adapters.backends.redis.fleet_counters import FleetCounters
from service.adapters.backends.redis.import_board import RedisImportBoard
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.redis.mirror import RedisMirror
from service.adapters.backends.store_backends import StoreBackends
from service.adapters.backends.store_identity import store_identity
from service.fleet_metrics import FleetCollector, FleetState
from service.handlers.access import Access
from service.handlers.adapters import AdapterService
from service.handlers.background import Background
from service.handlers.follower import Follower, FollowStats
from service.settings import Settings
from service.store_backends import store_backends

_REDIS_AWAY = (
    "Redis cannot be reached: what is known is served, changes are refused, and each replica"
    " applies its own share of the tenants' limits."
)
_STORE_AWAY = "The store cannot be reached: what is known is served, nothing new is heard of."


class Alone:
    """A process that owns its store."""

    collectors: Sequence[FleetCollector] = ()

    def __init__(self, settings: Settings) -> None:
        self.backends = store_backends(settings)
        self.counters: Counters = MemoryCounters()
        self.import_board: ImportBoard = NoBoard()

    def may_change(self) -> bool:
        return True

    def degraded(self) -> Sequence[str]:
        return ()

    @contextmanager
    def starting(self, *folders: str) -> Iterator[None]:  # noqa: ARG002
        yield

    @asynccontextmanager
    async def following(self, adapters: AdapterService, access: Access) -> AsyncIterator[None]:  # noqa: ARG002
        yield


class Fleet:
    """One of the replicas that share a store."""

    def __init__(self, settings: Settings) -> None:
        """Takes the store. Raises `ConfigurationError`; not because Redis is away."""
        self._settings = settings
        replica = replica_id(settings)
        backends = store_backends(settings, replica)
        # Before anything is read: who the store is, is written by whoever comes first.
        backends.hold.open(is_tidied=False)
        store_id = store_identity(backends.logs)
        self._link = link_of(settings, replica)
        self._announcements = RedisAnnouncements(self._link, store_id)
        self._logs = FleetLogs(
            backends.logs, RedisMirror(self._link, store_id), self._announcements
        )
        self.backends: StoreBackends = replace(backends, logs=self._logs)
        self.counters = FleetCounters(self._link)
        self.import_board = RedisImportBoard(self._link, settings.import_kept_s)
        self._stats = FollowStats()
        self.collectors = (FleetCollector(self._state),)
        self._link.start()

    def may_change(self) -> bool:
        return self._link.is_up

    def degraded(self) -> Sequence[str]:
        """Sentences for people."""
        is_up = (self._link.is_up, self._stats.is_store_up)
        return [text for text, up in zip((_REDIS_AWAY, _STORE_AWAY), is_up, strict=True) if not up]

    @contextmanager
    def starting(self, *folders: str) -> Iterator[None]:
        """Within the block logs of these folders are read in one go. Blocking."""
        with self._logs.mirrored(*folders):
            yield

    @asynccontextmanager
    async def following(self, adapters: AdapterService, access: Access) -> AsyncIterator[None]:
        """From when both know what the store had at their start."""
        follower = Follower(
            self._logs,
            self._announcements,
            (access.tenants, access.keys, adapters.following),
            self._settings.store_poll_s,
            self._stats,
        )
        await follower.start()
        counting = Background()
        counting.start(self.counters.run())
        try:
            yield
        finally:
            await follower.close()
            await counting.stop()
            await asyncio.to_thread(self._link.stop)
            await self._link.aclose()

    def _state(self) -> FleetState:
        link, stats = self._link.status, self._stats
        return FleetState(
            is_redis_up=link.is_up,
            redis_down_s=0.0 if link.is_up else time.monotonic() - link.since,
            num_redis_errors=link.num_errors,
            num_replicas=link.num_replicas,
            is_store_up=stats.is_store_up,
            num_announcements=stats.num_announcements,
            num_untold=self._logs.num_untold,
            num_comparisons=stats.num_comparisons,
            num_failures=stats.num_failures,
            lag_s=stats.lag_s,
        )


def place_of(settings: Settings) -> Alone | Fleet:
    return Alone(settings) if settings.redis_url is None else Fleet(settings)


def replica_id(settings: Settings) -> str:
    return settings.replica_id or f"{socket.gethostname()}-{settings.port}"


def link_of(settings: Settings, replica: str) -> RedisLink:
    assert settings.redis_url is not None
    address = parse_address(settings.redis_url.get_secret_value())
    about = {"port": settings.port, "since": int(time.time())}
    return RedisLink(address, settings.redis_key_prefix, replica, about=about)
