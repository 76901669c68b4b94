"""Two replicas, a real Redis, and what happens to it and on the way to it: nothing acknowledged is
lost, and without ever looking at the store by the clock each hears of all that the other did."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.adapters.backends.fleet_logs import FleetLogs
from service.adapters.backends.redis.address import parse_address
from service.adapters.backends.redis.announcements import RedisAnnouncements
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.redis.mirror import RedisMirror
from service.errors import StoreUnavailable
from service.handlers.follower import Follower
from tests.adapters.backends.conftest import PACE
from tests.fakes import MemoryLogs
from tests.fault_proxy import FaultProxy
from tests.handlers.test_follower import NEVER_S, Shown
from tests.redis_server import RedisServer, needs_redis
from tests.waiting import until_async

pytestmark = needs_redis

LOGS = ("journal/a", "journal/b")


class Side:
    def __init__(
        self, name: str, truth: MemoryLogs, server: RedisServer, proxy: FaultProxy
    ) -> None:
        self.proxy = proxy
        url = server.url_at(proxy.port)
        self.link = RedisLink(parse_address(url), "t:", name, pace=PACE)
        announcements = RedisAnnouncements(self.link, "store")
        self.mirror = RedisMirror(self.link, "store")
        self.logs = FleetLogs(truth, self.mirror, announcements)
        self.shown = Shown("journal", truth)
        self.follower = Follower(self.logs, announcements, [self.shown], NEVER_S)
        self.acknowledged: list[tuple[str, int]] = []
        self.num_refused = 0

    async def write(self, count: int) -> None:
        """As changes do: what somebody else wrote first is looked at, and tried again."""
        for number in range(count):
            log = LOGS[number % 2]
            try:
                length = len(self.logs.read(log))
                await asyncio.to_thread(self.logs.append, log, length, {"by": self.link.replica})
                self.acknowledged.append((log, length))
            except FileExistsError:
                continue
            except StoreUnavailable:
                self.num_refused += 1
            await asyncio.sleep(0.002)


class Place:
    """Two Redis, the other one a replica, and two replicas of the service."""

    def __init__(self, work: Path, stack: ExitStack) -> None:
        self.truth = MemoryLogs()
        self.redis = stack.enter_context(RedisServer(work, password="one"))
        self.other = stack.enter_context(RedisServer(work, password="one", replica_of=self.redis))
        self.other.wait_until_synced()
        self.sides = [
            Side(name, self.truth, self.redis, stack.enter_context(FaultProxy(self.redis.port)))
            for name in ("one", "two")
        ]
        for side in self.sides:
            side.link.start()
            stack.callback(side.link.stop)
            stack.callback(side.proxy.heal)

    def lead_to_the_other(self) -> None:
        for side in self.sides:
            side.proxy.lead_to(self.other.port)

    @property
    def is_known_to_all(self) -> bool:
        lengths = self.truth.lengths("journal")
        return all(side.shown.lengths() == lengths for side in self.sides)

    async def write(self, count: int = 20) -> None:
        await asyncio.gather(*(side.write(count) for side in self.sides))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


def play(place: Place, fault: Callable[[Place], None]) -> None:
    async def main() -> None:
        for side in place.sides:
            await side.follower.start()
        try:
            await place.write()
            during = asyncio.create_task(place.write(50))
            await asyncio.to_thread(fault, place)
            await during
            for side in place.sides:
                await asyncio.to_thread(side.proxy.heal)
            await until_async(lambda: all(side.link.is_up for side in place.sides))
            await place.write()
            await until_async(lambda: place.is_known_to_all)
        finally:
            for side in place.sides:
                await side.follower.close()
                await side.link.aclose()

    asyncio.run(main())
    check(place)


def check(place: Place) -> None:
    done = [one for side in place.sides for one in side.acknowledged]
    assert len(done) == len(set(done)), "one number was given to both"
    for side in place.sides:
        for log, number in side.acknowledged:
            assert place.truth.read(log)[number] == {"by": side.link.replica}
        assert len(side.acknowledged) > 20
    mirrored = place.sides[0].mirror.read_all("journal")
    for name, records in mirrored.items():
        truth = place.truth.read(f"journal/{name}")
        assert records == truth[: len(records)], "a mirror may lack the end and nothing else"


def slow(place: Place) -> None:
    for side in place.sides:
        side.proxy.delay(0.02)


def too_slow(place: Place) -> None:
    place.sides[0].proxy.delay(2.0)


def cut(place: Place) -> None:
    for side in place.sides:
        side.proxy.cut()


def half_an_answer(place: Place) -> None:
    for side in place.sides:
        side.proxy.cut_answers(count=3, after_bytes=2)


def silence(place: Place) -> None:
    place.sides[1].proxy.silence()


def one_is_cut_off(place: Place) -> None:
    place.sides[0].proxy.refuse()


def restart(place: Place) -> None:
    place.redis.restart_with_data()


def restart_with_nothing(place: Place) -> None:
    place.redis.restart_empty()


def failover(place: Place) -> None:
    """Of a primary that has died."""
    place.redis.kill()
    place.other.promote()
    place.lead_to_the_other()


def switchover(place: Place) -> None:
    """The former primary lives on as a replica, and keeps the connections that it has."""
    place.other.promote()
    place.redis.follow(place.other)
    place.lead_to_the_other()


def stranded(place: Place) -> None:
    """The former primary lives on, follows nobody who can be reached, and keeps its connections."""
    place.other.promote()
    with place.redis.client as client:
        client.replicaof("127.0.0.1", "1")
    place.lead_to_the_other()


@pytest.mark.parametrize(
    "fault",
    [
        slow,
        too_slow,
        cut,
        half_an_answer,
        silence,
        one_is_cut_off,
        restart,
        restart_with_nothing,
        failover,
        switchover,
        stranded,
    ],
)
def test_nothing_acknowledged_is_lost_and_all_hear_of_everything(
    place: Place, fault: Callable[[Place], None]
) -> None:
    play(place, fault)


def test_a_record_that_a_failover_has_lost_is_in_the_store_and_leaves_no_gap_in_the_mirror(
    place: Place,
) -> None:
    """Redis replicates after it has answered, so the new primary may lack what was written last."""
    one = place.sides[0]
    one.logs.append("journal/a", 0, {"n": 0})
    place.other.wait_until_synced()
    place.other.promote()
    one.logs.append("journal/a", 1, {"n": 1})
    place.redis.kill()
    place.lead_to_the_other()

    one.logs.append("journal/a", 2, {"n": 2})
    assert one.mirror.read_all("journal") == {"a": [{"n": 0}]}
    with one.logs.mirrored("journal"):
        assert one.logs.read("journal/a") == [{"n": number} for number in range(3)]
    assert one.mirror.read_all("journal") == {"a": place.truth.read("journal/a")}
