"""Everybody hears what is announced, and whoever may have missed something is told so: one suite
over every kind of `Announcements`."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Protocol

import pytest

from service.adapters.backends.announcements import Announcement, Announcements
from service.adapters.backends.memory_announcements import MemoryAnnouncements
from service.adapters.backends.redis.announcements import RedisAnnouncements
from service.errors import StoreUnavailable
from tests.adapters.backends.conftest import Connect
from tests.fault_proxy import FaultProxy
from tests.redis_server import needs_redis
from tests.waiting import until_async

FIRST, SECOND = Announcement("journal/roman", 1), Announcement("keys/7f3a", 12)


class Network(Protocol):
    def join(self, replica: str) -> Announcements: ...
    def interrupt(self) -> None: ...
    def mend(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._all = MemoryAnnouncements()
        self.interrupt, self.mend = self._all.interrupt, self._all.mend

    def join(self, replica: str) -> Announcements:
        return self._all


class OverRedis:
    def __init__(self, connect: Connect, proxy: FaultProxy) -> None:
        self._connect, self._proxy = connect, proxy
        self.mend = proxy.heal

    def interrupt(self) -> None:
        self._proxy.refuse()

    def join(self, replica: str) -> Announcements:
        return RedisAnnouncements(self._connect(replica), "store")


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    if request.param == "memory":
        yield InMemory()
    else:
        connect = request.getfixturevalue("connect")
        yield OverRedis(connect, request.getfixturevalue("proxy"))


async def collect(announcements: Announcements, heard: list[Announcement | None]) -> None:
    async with aclosing(announcements.listen()) as stream:
        async for one in stream:
            heard.append(one)


def test_all_replicas_hear_of_it_the_speaker_too(network: Network) -> None:
    async def main() -> None:
        replicas = [network.join("one"), network.join("two")]
        ears: list[list[Announcement | None]] = [[], []]
        tasks = [
            asyncio.create_task(collect(replica, ear))
            for replica, ear in zip(replicas, ears, strict=True)
        ]
        await until_async(lambda: all(ears))
        await asyncio.to_thread(replicas[0].announce, FIRST)
        await asyncio.to_thread(replicas[1].announce, SECOND)
        await until_async(lambda: all(len(ear) == 3 for ear in ears))
        assert all(ear[0] is None and set(ear[1:]) == {FIRST, SECOND} for ear in ears)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_after_an_interruption_everybody_is_told_to_compare(network: Network) -> None:
    async def main() -> None:
        replica, ear = network.join("one"), []
        task = asyncio.create_task(collect(replica, ear))
        await until_async(lambda: ear == [None])
        network.interrupt()
        with pytest.raises(StoreUnavailable):
            await asyncio.to_thread(replica.announce, FIRST)
        assert not replica.is_up
        network.mend()
        await until_async(lambda: ear == [None, None] and replica.is_up)
        await asyncio.to_thread(replica.announce, SECOND)
        await until_async(lambda: ear == [None, None, SECOND])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


@needs_redis
def test_silence_is_an_interruption(connect: Connect, proxy: FaultProxy) -> None:
    """Nobody closes the connection; only no sign of life comes any more."""

    async def main() -> None:
        link = connect("one")
        replica, ear = RedisAnnouncements(link, "store"), []
        task = asyncio.create_task(collect(replica, ear))
        await until_async(lambda: ear == [None])
        proxy.silence()
        await until_async(lambda: not link.is_up)
        await asyncio.sleep(0.5)
        proxy.heal()
        await until_async(lambda: len(ear) > 1)
        assert set(ear) == {None}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


@needs_redis
def test_another_store_is_not_heard_and_nonsense_means_compare(connect: Connect) -> None:
    async def main() -> None:
        link, ear = connect("one"), []
        task = asyncio.create_task(collect(RedisAnnouncements(link, "mine"), ear))
        await until_async(lambda: ear == [None])
        await asyncio.to_thread(RedisAnnouncements(link, "other").announce, FIRST)
        await asyncio.to_thread(link.publish, "announce:mine", "nonsense")
        await asyncio.to_thread(RedisAnnouncements(link, "mine").announce, SECOND)
        await until_async(lambda: ear == [None, None, SECOND])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


@needs_redis
def test_a_quiet_channel_stays_open(connect: Connect) -> None:
    async def main() -> None:
        link, ear = connect("one"), []
        task = asyncio.create_task(collect(RedisAnnouncements(link, "mine"), ear))
        await until_async(lambda: ear == [None])
        await asyncio.sleep(0.6)  # several signs of life
        assert ear == [None]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
