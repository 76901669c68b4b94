"""One experiment: what is simulated, and its run."""

from dataclasses import dataclass, field
from functools import cache

from service.core import AdapterRef
from tests.bench.fleet_simulation.fleet import Asked, Fleet, chance
from tests.bench.fleet_simulation.memory import Memory, make_refs
from tests.bench.fleet_simulation.profile import Profile
from tests.bench.fleet_simulation.routers import Knobs
from tests.bench.fleet_simulation.traffic import Popularity, Surge, arrivals, make_request

_UNDER_WAY = 16
"""Requests of a replica that count as not answered while memory is filled."""
_CAPACITY_REQUESTS = 640


@dataclass(frozen=True, slots=True)
class Scenario:
    routing: str
    num_replicas: int
    exponent: float
    load: float
    """Of the replicas' capacity."""
    profile: Profile
    num_adapters: int = 10_000
    tiers: tuple[float, float, float] = (0.01, 0.05, 1.0)
    """Device, host and disk of one replica, of all adapters."""
    num_requests: int = 3000
    warm_requests: int = 3000
    """For each replica."""
    surge: Surge | None = None
    change: str = ""
    """Half way: `kill` of the first replica, or `add`."""
    knobs: Knobs = field(default=Knobs())
    seed: int = 0

    @property
    def memory(self) -> Memory:
        return Memory.of(*(max(1, round(part * self.num_adapters)) for part in self.tiers))


@dataclass(frozen=True, slots=True)
class Run:
    scenario: Scenario
    rate: float
    """Requests per second that come in."""
    asked: list[Asked]
    """In order."""
    changed_at: float | None
    moved: float | None
    """Share of the adapters that have another replica after the change; None = they have none."""


def run(scenario: Scenario) -> Run:
    refs = make_refs(scenario.num_adapters)
    popularity = Popularity(scenario.num_adapters, scenario.exponent)
    rate = scenario.load * scenario.num_replicas * capacity(scenario)
    fleet = Fleet(
        scenario.routing,
        scenario.num_replicas,
        scenario.profile,
        scenario.memory,
        scenario.knobs,
    )
    _warm(fleet, scenario, refs, popularity, rate)
    return _serve(fleet, scenario, refs, popularity, rate)


def _warm(
    fleet: Fleet,
    scenario: Scenario,
    refs: list[AdapterRef],
    popularity: Popularity,
    rate: float,
) -> None:
    fleet.fill_disks(refs)
    draw = chance(scenario.seed, "warm")
    numbers = popularity.draw(draw, scenario.warm_requests * scenario.num_replicas)
    fleet.warm(
        (refs[number] for number in numbers),
        under_way=_UNDER_WAY * scenario.num_replicas,
        poll_every=max(1, round(rate * scenario.knobs.poll_s)),
    )


def _serve(
    fleet: Fleet,
    scenario: Scenario,
    refs: list[AdapterRef],
    popularity: Popularity,
    rate: float,
) -> Run:
    """The same requests at the same moments whatever the routing."""
    draw = chance(scenario.seed, "serve", scenario.exponent)
    pairs = list(arrivals(draw, popularity, rate, scenario.num_requests, scenario.surge))
    traffic = scenario.profile.traffic
    calendar = fleet.calendar
    requests = (
        (at, number, make_request(draw, index, refs[number], traffic))
        for index, (at, number) in enumerate(pairs)
    )

    def ask_next() -> None:
        upcoming = next(requests, None)
        if upcoming is not None:
            at, number, request = upcoming

            def ask() -> None:
                fleet.submit(request, number)
                ask_next()

            calendar.at(at, ask)

    moved: list[float] = []
    changed_at = scenario.num_requests / rate / 2 if scenario.change else None
    if changed_at is not None:
        calendar.at(changed_at, lambda: moved.extend(_change(fleet, scenario.change, refs)))
    fleet.keep_publishing()
    ask_next()
    num_open = len(pairs)
    calendar.run(until=lambda: fleet.num_ended == num_open)
    return Run(scenario, rate, list(fleet.asked.values()), changed_at, next(iter(moved), None))


def _change(fleet: Fleet, change: str, refs: list[AdapterRef]) -> list[float]:
    before = fleet.homes(refs)
    if change == "kill":
        fleet.kill(0)
    else:
        fleet.add()
    after = fleet.homes(refs)
    has_home = fleet.router.has_home
    return [sum(before[one] != after[one] for one in before) / len(refs)] if has_home else []


def capacity(scenario: Scenario) -> float:
    """Requests per second of one replica that has every adapter on its device and never waits for
    a request."""
    return _capacity(scenario.profile, scenario.exponent, scenario.num_adapters, scenario.seed)


@cache
def _capacity(profile: Profile, exponent: float, num_adapters: int, seed: int) -> float:
    refs = make_refs(num_adapters)
    numbers = Popularity(num_adapters, exponent).draw(chance(seed), _CAPACITY_REQUESTS)
    memory = Memory.of(num_adapters, num_adapters, num_adapters)
    fleet = Fleet("round robin", 1, profile, memory, Knobs())
    fleet.warm((refs[number] for number in set(numbers)), under_way=1, poll_every=1)
    draw = chance(seed, "capacity")
    for index, number in enumerate(numbers):
        fleet.submit(make_request(draw, index, refs[number], profile.traffic), number)
    fleet.calendar.run(until=lambda: fleet.num_ended == len(numbers))
    ends = sorted(one.end for one in fleet.asked.values() if one.end is not None)
    # Neither while the batch fills nor while it runs empty.
    first, last = len(ends) // 10, 8 * len(ends) // 10
    return (last - first) / (ends[last] - ends[first])
