"""One claim: all of it or nothing, and given back when it is settled. One suite over the counters
of one process and those of a fleet, with Redis and without."""

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from service.adapters.backends.counters import Claim, Counters, Limit
from service.adapters.backends.memory_counters import MemoryCounters
from service.adapters.backends.redis.counters import RedisCounters
from service.adapters.backends.redis.fleet_counters import FleetCounters
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.sliding_window import WINDOW_MS
from service.adapters.backends.tenant_meter import TenantMeter
from service.tenancy import RateState, TenantLimits, WindowState
from tests.adapters.backends.conftest import Connect
from tests.fault_proxy import FaultProxy
from tests.redis_server import needs_redis

LIMITS = TenantLimits(requests_per_minute=3, tokens_per_minute=100, max_concurrent_requests=2)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


KINDS = ["memory", *(pytest.param(kind, marks=needs_redis) for kind in ("redis", "fleet", "alone"))]

_links: list[RedisLink] = []
"""Of the test that runs; their connections end with the loop that it runs in."""


@pytest.fixture(params=KINDS)
def counters(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Counters]:
    if request.param == "memory":
        yield MemoryCounters(clock)
        return
    connect: Connect = request.getfixturevalue("connect")
    proxy: FaultProxy = request.getfixturevalue("proxy")
    link = connect(clock_ms=lambda: int(clock() * 1000))
    _links.append(link)
    if request.param == "alone":
        proxy.refuse()
    yield RedisCounters(link) if request.param == "redis" else FleetCounters(link, clock)
    _links.clear()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def main() -> Any:
        try:
            return await work
        finally:
            for link in _links:
                await link.aclose()

    return asyncio.run(main())


def claim(ticket: str, num_tokens: int = 10, tenant: str = "red") -> Claim:
    return Claim(tenant, LIMITS, num_tokens, ticket)


def test_a_granted_claim_says_what_is_left(counters: Counters) -> None:
    ruling = run(counters.claim(claim("a", 30)))
    assert ruling.exceeded == ()
    assert ruling.rates == RateState(WindowState(3, 2, 60_000), WindowState(100, 70, 60_000))


def test_a_refused_claim_has_taken_nothing(counters: Counters) -> None:
    async def main() -> None:
        await counters.claim(claim("a", 60))
        ruling = await counters.claim(claim("b", 60))
        assert ruling.exceeded == (Limit.TOKENS,)
        assert ruling.rates.requests == WindowState(3, 2, 60_000)
        assert (await counters.claim(claim("c", 40))).exceeded == ()

    run(main())


def test_each_limit_is_named(counters: Counters, clock: Clock) -> None:
    async def main() -> None:
        await counters.claim(claim("a"))
        clock.now += 20
        await counters.claim(claim("b"))
        ruling = await counters.claim(claim("c"))
        assert (ruling.exceeded, ruling.wait_ms) == ((Limit.CONCURRENCY,), 0)
        await counters.settle("red", "a", 10)
        await counters.claim(claim("c", 30))
        ruling = await counters.claim(claim("d", 60))
        assert ruling.exceeded == (Limit.REQUESTS, Limit.TOKENS, Limit.CONCURRENCY)
        assert ruling.wait_ms == 40_000, "b and c fill the tokens until a's request has gone"

    run(main())


def test_the_longest_wait_counts(counters: Counters, clock: Clock) -> None:
    async def main() -> None:
        for ticket, num_tokens in (("a", 1), ("b", 1), ("c", 98)):
            await counters.claim(claim(ticket, num_tokens))
            await counters.settle("red", ticket, num_tokens)
            clock.now += 10
        ruling = await counters.claim(claim("d", 50))
        assert ruling.exceeded == (Limit.REQUESTS, Limit.TOKENS)
        assert ruling.wait_ms == 50_000
        clock.now += 50
        assert (await counters.claim(claim("d", 50))).exceeded == ()

    run(main())


@pytest.mark.parametrize(("used", "left"), [(10, 90), (0, 100), (None, 100)])
def test_what_was_not_used_is_given_back(counters: Counters, used: int | None, left: int) -> None:
    async def main() -> None:
        await counters.claim(claim("a", 80))
        await counters.settle("red", "a", used)
        await counters.settle("red", "a", 0)
        ruling = await counters.claim(claim("b", 0))
        assert ruling.rates.tokens == WindowState(100, left, 60_000 if left < 100 else 0)
        assert ruling.rates.requests.remaining == (2 if used is None else 1)

    run(main())


def test_tenants_do_not_share(counters: Counters) -> None:
    async def main() -> None:
        for ticket in "abc":
            await counters.claim(claim(ticket))
        assert (await counters.claim(claim("d"))).exceeded
        await counters.settle("blue", "a", 0)
        assert (await counters.claim(claim("d"))).exceeded
        assert not (await counters.claim(claim("e", tenant="blue"))).exceeded

    run(main())


def test_a_limit_that_comes_later_knows_what_was_taken_before(counters: Counters) -> None:
    async def main() -> None:
        for ticket in "ab":
            await counters.claim(Claim("red", TenantLimits(max_concurrent_requests=9), 40, ticket))
        assert (await counters.claim(claim("c"))).exceeded == (Limit.CONCURRENCY,)

    run(main())


def test_tenants_that_have_gone_quiet_are_forgotten(clock: Clock) -> None:
    async def main() -> None:
        counters = MemoryCounters(clock)
        for i in range(500):
            await counters.claim(claim("a", tenant=f"t{i}"))
            if i:
                await counters.settle(f"t{i}", "a", 1)
        clock.now += 61
        for i in range(1024):
            await counters.claim(claim(f"x{i}"))
        assert set(counters._meters) == {"red", "t0"}

    run(main())


@given(
    st.lists(
        st.tuples(
            st.integers(0, 15_000),
            st.integers(1, 60),
            st.none() | st.integers(0, 60),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_whatever_happens_no_minute_has_more_than_the_limits(
    steps: list[tuple[int, int, int | None, bool]],
) -> None:
    """Each step claims, and may settle the oldest that runs."""
    meter, now, running, begun = TenantMeter(), 0, {}, []
    for i, (pause, wanted, used, is_settled) in enumerate(steps):
        now += pause
        ticket = f"t{i}"
        ruling = meter.claim(claim(ticket, wanted), now)
        if not ruling.exceeded:
            running[ticket] = [now, wanted]
            begun.append(running[ticket])
        elif Limit.CONCURRENCY not in ruling.exceeded:
            assert 0 < ruling.wait_ms <= WINDOW_MS
        assert len(running) <= 2
        assert meter.num_running == len(running)
        if is_settled and running:
            oldest, entry = next(iter(running.items()))
            del running[oldest]
            if used is None:
                begun.remove(entry)
            else:
                entry[1] = min(used, entry[1])
            meter.settle(oldest, None if used is None else entry[1])
        for end, _ in begun:
            recent = [amount for at, amount in begun if end - WINDOW_MS < at <= end]
            assert len(recent) <= 3
            assert sum(recent) <= 100


def test_tokens_can_be_reserved_later_and_again(counters: Counters) -> None:
    async def main() -> None:
        await counters.claim(claim("a", 0))
        assert (await counters.reserve(claim("a", 60))).exceeded == ()
        assert (await counters.reserve(claim("a", 90))).exceeded == (), "in place of the 60"
        await counters.claim(claim("b", 0))
        ruling = await counters.reserve(claim("b", 20))
        assert ruling.exceeded == (Limit.TOKENS,)
        assert ruling.wait_ms > 0
        await counters.settle("red", "a", 30)
        assert (await counters.reserve(claim("b", 70))).exceeded == ()
        await counters.settle("red", "b", None)
        ruling = await counters.claim(claim("c", 70))
        assert ruling.exceeded == ()

    run(main())


STEPS = st.lists(
    st.tuples(
        st.integers(0, 15_000),
        st.sampled_from(["claim", "claim", "reserve", "settle"]),
        st.integers(0, 7),
        st.integers(0, 60),
    ),
    max_size=40,
)


@needs_redis
@pytest.mark.parametrize("kind", [RedisCounters, FleetCounters])
def test_redis_rules_as_one_process_does(connect: Connect, kind: type) -> None:
    """Whatever happens, to the millisecond."""
    clock = Clock()
    link = connect(clock_ms=lambda: int(clock() * 1000))
    numbers = itertools.count()

    @settings(max_examples=60)
    @given(STEPS)
    def check(steps: list[tuple[int, str, int, int]]) -> None:
        tenant = f"red{next(numbers)}"
        ours, theirs = (
            MemoryCounters(clock),
            kind(link, *([clock] if kind is FleetCounters else [])),
        )

        async def main() -> None:
            running: set[str] = set()
            for i, (pause_ms, what, which, amount) in enumerate(steps):
                clock.now += pause_ms / 1000
                ticket = f"t{i}" if what == "claim" else f"t{which}"
                wanted = Claim(tenant, LIMITS, amount, ticket)
                if what == "settle":
                    used = None if amount > 50 else amount
                    for one in (ours, theirs):
                        await one.settle(tenant, ticket, used)
                    running.discard(ticket)
                elif what == "claim" or ticket in running:
                    rulings = [await getattr(one, what)(wanted) for one in (ours, theirs)]
                    assert rulings[0] == rulings[1], (i, what)
                    if what == "claim" and not rulings[0].exceeded:
                        running.add(ticket)
            await link.aclose()

        asyncio.run(main())

    check()
