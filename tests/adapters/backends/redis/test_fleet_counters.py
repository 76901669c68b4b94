"""What tenants take is counted once and never forgotten, whatever happens between replicas and
Redis; and nobody waits for it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from service.adapters.backends.counters import Claim, Limit
from service.adapters.backends.redis.address import parse_address
from service.adapters.backends.redis.fleet_counters import FleetCounters
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.share import local_share
from service.tenancy import TenantLimits
from tests.adapters.backends.conftest import PACE
from tests.fault_proxy import FaultProxy
from tests.redis_server import RedisServer, needs_redis
from tests.waiting import until, until_async

LIMITS = TenantLimits(requests_per_minute=10, tokens_per_minute=100, max_concurrent_requests=8)
QUICK = replace(PACE, settle_s=0.0)
PATIENT = replace(QUICK, timeout_s=10.0)
"""Where Redis is there all the time, a machine that is slow for a moment must not make it away."""


def claim(ticket: str, num_tokens: int = 10, limits: TenantLimits = LIMITS) -> Claim:
    return Claim("red", limits, num_tokens, ticket)


@dataclass
class Replica:
    link: RedisLink
    proxy: FaultProxy
    counters: FleetCounters


class House:
    """A Redis, and replicas that each reach it by a proxy of their own."""

    def __init__(self, work: Path) -> None:
        self._stack = ExitStack()
        self.server = self._stack.enter_context(RedisServer(work))
        self.replicas: list[Replica] = []

    def add(self, name: str, pace=QUICK) -> Replica:
        proxy = self._stack.enter_context(FaultProxy(self.server.port))
        link = RedisLink(parse_address(self.server.url_at(proxy.port)), "t:", name, pace=pace)
        link.start()
        self._stack.callback(link.stop)
        self._stack.callback(proxy.heal)
        self.replicas.append(Replica(link, proxy, FleetCounters(link)))
        until(lambda: all(one.link.status.num_replicas == self.size for one in self.replicas))
        return self.replicas[-1]

    @property
    def size(self) -> int:
        return len(self.replicas)

    def run(self, main: Callable[[], Awaitable[None]], *, is_telling: bool = True) -> None:
        async def whole() -> None:
            tellers = [asyncio.create_task(one.counters.run()) for one in self.replicas]
            try:
                await asyncio.wait_for(main(), 60)
            finally:
                for teller in tellers:
                    teller.cancel()
                await asyncio.gather(*tellers, return_exceptions=True)
                for one in self.replicas:
                    await one.link.aclose()

        asyncio.run(whole())

    def counted(self) -> tuple[int, int, int]:
        """Requests, tokens and running requests of the tenant, as Redis has them."""
        meter = self.server.client.hgetall("t:meter:red")
        running = sum(int(meter[one]) for one in meter if one.startswith("running@"))
        return int(meter.get("requests", 0)), int(meter.get("tokens", 0)), running

    def granted(self) -> tuple[int, int, int]:
        """The same as the replicas know it."""
        reports = [one.counters._report_of("red") for one in self.replicas]
        return (
            sum(entry[2] for report in reports for entry in report.requests),
            sum(entry[2] for report in reports for entry in report.tokens),
            sum(len(report.running) for report in reports),
        )

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


@needs_redis
def test_two_replicas_together_stay_within_the_limits(house: House) -> None:
    one, two = house.add("one", PATIENT), house.add("two", PATIENT)

    async def main() -> None:
        limits = replace(LIMITS, max_concurrent_requests=None)
        claims = [
            replica.counters.claim(claim(f"{name}{i}", 8, limits))
            for i in range(20)
            for name, replica in (("a", one), ("b", two))
        ]
        rulings = await asyncio.gather(*claims)
        assert sum(not ruling.exceeded for ruling in rulings) == 10
        assert house.counted() == house.granted() == (10, 80, 10)

    house.run(main)


@needs_redis
def test_what_runs_anywhere_counts_everywhere_until_its_replica_is_dead(house: House) -> None:
    one, two = house.add("one", replace(QUICK, alive_s=1.0)), house.add("two")
    limits = TenantLimits(max_concurrent_requests=1)

    async def main() -> None:
        assert not (await one.counters.claim(claim("a", 0, limits))).exceeded
        assert (await two.counters.claim(claim("b", 0, limits))).exceeded == (Limit.CONCURRENCY,)
        one.proxy.refuse()
        await until_async(lambda: two.link.status.num_replicas == 1)
        assert not (await two.counters.claim(claim("b", 0, limits))).exceeded

    house.run(main)


@needs_redis
@pytest.mark.parametrize("answers", [1, 2])
@pytest.mark.parametrize("after_bytes", [0, 5])
def test_a_grant_whose_answer_was_lost_is_counted_once(
    house: House, answers: int, after_bytes: int
) -> None:
    one = house.add("one", replace(QUICK, heartbeat_s=60))

    async def main() -> None:
        await one.counters.claim(claim("a"))
        one.proxy.cut_answers(answers, after_bytes)
        assert not (await one.counters.claim(claim("b", 20))).exceeded
        await until_async(lambda: one.counters._shared.is_told("red"))
        assert house.counted() == house.granted() == (2, 30, 2)

    house.run(main)


@needs_redis
def test_a_claim_that_nobody_waits_for_any_more_is_not_counted(house: House) -> None:
    one = house.add("one", replace(QUICK, heartbeat_s=0.5, timeout_s=5))

    async def main() -> None:
        await one.counters.claim(claim("a"))
        one.proxy.delay(0.2)
        task = asyncio.create_task(one.counters.claim(claim("b")))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        one.proxy.delay(0)
        await until_async(lambda: house.counted() == house.granted() == (1, 10, 1))

    house.run(main)


@needs_redis
@pytest.mark.parametrize("fault", ["refuse", "silence", "delay"])
def test_without_redis_each_replica_grants_its_share_and_tells_it_afterwards(
    house: House, fault: str
) -> None:
    one, two = house.add("one"), house.add("two")

    async def main() -> None:
        for replica in (one, two):
            getattr(replica.proxy, fault)(*([5.0] if fault == "delay" else []))
        claims = [
            replica.counters.claim(claim(f"{name}{i}", 1))
            for i in range(20)
            for name, replica in (("a", one), ("b", two))
        ]
        rulings = await asyncio.gather(*claims)
        assert sum(not ruling.exceeded for ruling in rulings) == 8, "four at once for each"
        assert rulings[-1].rates.requests.limit == 5
        await one.counters.settle("red", "a0", 1)
        await one.counters.settle("red", "a1", None)
        for replica in (one, two):
            replica.proxy.heal()
        await until_async(lambda: house.counted() == house.granted() == (7, 7, 6))
        assert not (await one.counters.claim(claim("c", 1))).exceeded
        assert not (await two.counters.claim(claim("d", 1))).exceeded
        assert Limit.CONCURRENCY in (await one.counters.claim(claim("e", 1))).exceeded

    house.run(main)


@needs_redis
def test_who_starts_without_redis_believes_to_be_alone(house: House) -> None:
    one = house.add("one")
    address = parse_address(house.server.url)
    late = RedisLink(address, "t:", "late", pace=QUICK)

    async def main() -> None:
        await asyncio.to_thread(house.server.kill)
        await until_async(lambda: not one.link.is_up)
        await asyncio.to_thread(late.start)
        counters = FleetCounters(late)
        rulings = [await counters.claim(claim(f"b{i}", 0)) for i in range(9)]
        assert sum(not ruling.exceeded for ruling in rulings) == 8
        await late.aclose()
        await asyncio.to_thread(late.stop)

    house.run(main)


@needs_redis
def test_a_flood_while_redis_is_silent_waits_for_nothing(house: House) -> None:
    one = house.add("one")

    async def main() -> None:
        one.proxy.silence()
        async with asyncio.timeout(30):
            await asyncio.gather(*(one.counters.claim(claim(f"t{i}")) for i in range(2000)))
        assert house.granted() == (8, 80, 8)

    house.run(main)


@needs_redis
def test_an_empty_redis_is_told_again_by_everybody(house: House) -> None:
    one, two = house.add("one"), house.add("two")

    async def main() -> None:
        await one.counters.claim(claim("a", 30))
        await two.counters.claim(claim("b", 30))
        await two.counters.settle("red", "b", 20)
        for forget in (house.server.restart_empty, house.server.client.flushall):
            await asyncio.to_thread(forget)
            await until_async(lambda: house.counted() == (2, 50, 1))
        ruling = await one.counters.claim(claim("c", 51))
        assert ruling.exceeded == (Limit.TOKENS,)

    house.run(main)


@needs_redis
def test_while_others_may_still_have_to_tell_each_keeps_to_its_share(house: House) -> None:
    one, two = house.add("one", PACE), house.add("two", PACE)

    async def main() -> None:
        await two.counters.claim(claim("a", 45))
        await one.counters.claim(claim("b", 1))
        await asyncio.to_thread(house.server.client.flushall)
        ruling = await one.counters.claim(claim("c", 60))
        assert ruling.exceeded == (Limit.TOKENS,), "the other's 45 are not in Redis, but count"

    house.run(main)


@needs_redis
def test_a_call_larger_than_the_share_waits_for_redis(house: House) -> None:
    one, _ = house.add("one"), house.add("two")

    async def main() -> None:
        await one.counters.claim(claim("a", 0))
        one.proxy.refuse()
        ruling = await one.counters.reserve(claim("a", 60))
        assert ruling.exceeded == (Limit.TOKENS,)
        assert ruling.wait_ms > 0
        assert not (await one.counters.reserve(claim("a", 50))).exceeded
        one.proxy.heal()
        await until_async(lambda: house.counted() == (1, 50, 1))
        assert not (await one.counters.reserve(claim("a", 60))).exceeded

    house.run(main)


@needs_redis
def test_a_replica_that_starts_again_has_not_forgotten_what_it_granted_before(
    house: House,
) -> None:
    one = house.add("one")
    address = parse_address(house.server.url)
    again = RedisLink(address, "t:", "one", pace=QUICK)

    async def main() -> None:
        await one.counters.claim(claim("a", 60))
        await asyncio.to_thread(one.link.stop)
        await asyncio.to_thread(again.start)
        counters = FleetCounters(again)
        ruling = await counters.claim(claim("b", 50))
        assert ruling.exceeded == (Limit.TOKENS,)
        limits = replace(LIMITS, max_concurrent_requests=1)
        assert not (await counters.claim(claim("c", 40, limits))).exceeded, "a has ended with it"
        await again.aclose()
        await asyncio.to_thread(again.stop)

    house.run(main)


@needs_redis
def test_a_failover_loses_nothing(house: House, tmp_path: Path) -> None:
    one, two = house.add("one"), house.add("two")
    with RedisServer(tmp_path / "other", replica_of=house.server) as other:
        other.wait_until_synced()

        async def main() -> None:
            await one.counters.claim(claim("a", 30))
            await asyncio.to_thread(other.promote)
            await two.counters.claim(claim("b", 30))  # only the former primary has it
            await asyncio.to_thread(house.server.follow, other)
            for replica in (one, two):
                await until_async(lambda replica=replica: not replica.link.is_up)
                replica.proxy.lead_to(other.port)
            house.server = other
            await until_async(lambda: house.counted() == house.granted() == (2, 60, 2))

        former = house.server
        house.run(main)
        house.server = former


@needs_redis
@pytest.mark.parametrize("seed", range(4))
def test_after_any_disturbance_redis_has_what_the_replicas_have_granted(
    house: House, seed: int
) -> None:
    """Random calls of two replicas beside random faults; nothing gets old enough to be free."""
    chance = random.Random(seed)
    replicas = [house.add("one"), house.add("two")]
    limits = TenantLimits(10_000, 1_000_000, 10_000)

    async def serve(replica: Replica, name: str) -> None:
        running: list[str] = []
        for i in range(60):
            what = chance.choice(["claim", "claim", "reserve", "settle"])
            if what == "claim" or not running:
                ticket = f"{name}{i}"
                ruling = await replica.counters.claim(claim(ticket, chance.randrange(50), limits))
                running += [] if ruling.exceeded else [ticket]
            elif what == "reserve":
                wanted = claim(chance.choice(running), chance.randrange(50), limits)
                await replica.counters.reserve(wanted)
            else:
                ticket = running.pop(chance.randrange(len(running)))
                used = chance.choice([None, 0, 7])
                await replica.counters.settle("red", ticket, used)
            await asyncio.sleep(chance.random() * 0.01)

    async def disturb() -> None:
        while True:
            proxy = chance.choice(replicas).proxy
            fault = chance.choice(["cut", "cut_answers", "refuse", "silence", "delay", "flush"])
            if fault == "flush":
                await asyncio.to_thread(house.server.client.flushall)
            elif fault == "delay":
                proxy.delay(chance.random())
            elif fault == "cut_answers":
                proxy.cut_answers(chance.randint(1, 3), chance.randrange(6))
            else:
                await asyncio.to_thread(getattr(proxy, fault))
            await asyncio.sleep(chance.random() * 0.1)
            await asyncio.to_thread(proxy.heal)

    async def main() -> None:
        disturbing = asyncio.create_task(disturb())
        await asyncio.gather(
            *(serve(one, f"r{i}-{j}-") for i, one in enumerate(replicas) for j in range(4))
        )
        disturbing.cancel()
        await asyncio.gather(disturbing, return_exceptions=True)
        for one in replicas:
            await asyncio.to_thread(one.proxy.heal)
        await until_async(lambda: house.counted() == house.granted())
        assert house.granted()[0] > 100

    house.run(main)


def test_a_share_is_an_equal_part_and_at_least_one() -> None:
    limits = TenantLimits(10, 100, 2, max_adapters=7, max_adapter_bytes=70)
    assert local_share(limits, 1) == limits
    assert local_share(limits, 3) == TenantLimits(3, 33, 1, 7, 70)
    assert local_share(TenantLimits(), 3) == TenantLimits()
