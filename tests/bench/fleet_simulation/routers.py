"""Who gets a request: the routings that are compared."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.fleet_simulation.ring import NODES, Ring


@dataclass(slots=True)
class Sight:
    """What a router can see of the replicas."""

    live: list[int]
    outstanding: dict[int, int]
    """Requests of its own that are not answered, by replica: always true."""
    published: dict[int, Mapping[str, str]] = field(default_factory=dict)
    """Resident digests as each replica last told: as old as the polls are apart."""


@dataclass(frozen=True, slots=True)
class Knobs:
    load_bound: int = 150
    """Percent of the mean load: LOAD_BOUND of docker/haproxy.cfg."""
    nodes: int = NODES
    """Points of a replica on the ring."""
    ring: int = 0
    """Which of the rings of that shape."""
    poll_s: float = 1.0


class Router(ABC):
    has_home = False
    """Whether an adapter that is nowhere in memory has one replica that it goes to."""

    def __init__(self, sight: Sight, knobs: Knobs) -> None:
        self._sight, self._knobs = sight, knobs
        self._turn = 0
        self._ring = Ring(sight.live, knobs.nodes, knobs.ring)

    @abstractmethod
    def choose(self, digest: str) -> int: ...

    def refresh(self) -> None:
        """Replicas have come or gone."""
        self._ring = Ring(self._sight.live, self._knobs.nodes, self._knobs.ring)

    def home(self, digest: str) -> int:
        return self._ring.order(digest)[0]

    def seen_by(self, digest: str) -> Sequence[int]:
        """Who is asked for it in a long time; those with a home first there, then at its side."""
        return self._ring.order(digest) if self.has_home else self._sight.live

    def least(self, among: Sequence[int]) -> int:
        """Who has least to do; of equals each in turn."""
        self._turn += 1
        outstanding, count = self._sight.outstanding, len(among)
        places = sorted(range(count), key=lambda place: (place + self._turn) % count)
        return among[min(places, key=lambda place: outstanding[among[place]])]

    def has_room(self) -> Callable[[int], bool]:
        """HAProxy's rule: of bound times all requests, this one included, rounded up, each live
        replica may have its part, the first ones what does not divide; but always one."""
        live, outstanding = self._sight.live, self._sight.outstanding
        total = sum(outstanding[one] for one in live) + 1
        slots = (total * self._knobs.load_bound + 99) // 100
        part, rest = divmod(slots, len(live))
        limits = {one: max(1, part + (place < rest)) for place, one in enumerate(live)}
        return lambda one: outstanding[one] < limits[one]


class RoundRobin(Router):
    def choose(self, digest: str) -> int:
        self._turn += 1
        return self._sight.live[self._turn % len(self._sight.live)]


class LeastOutstanding(Router):
    def choose(self, digest: str) -> int:
        return self.least(self._sight.live)


class ConsistentHash(Router):
    has_home = True

    def choose(self, digest: str) -> int:
        return self.home(digest)

    def seen_by(self, digest: str) -> Sequence[int]:
        return (self.home(digest),)


class BoundedHash(Router):
    has_home = True

    def choose(self, digest: str) -> int:
        has_room = self.has_room()
        return next(filter(has_room, self._ring.order(digest)))


class ResidencyAware(Router):
    """The least loaded of those that have it in memory, unless all of these are full; then whoever
    has least to do, as the filters of the Gateway API Inference Extension do."""

    def choose(self, digest: str) -> int:
        holder = self._holder(digest)
        return self.least(self._sight.live) if holder is None else holder

    def _holder(self, digest: str) -> int | None:
        has_room, published = self.has_room(), self._sight.published
        holders = [
            one for one in self._sight.live if digest in published.get(one, ()) and has_room(one)
        ]
        return self.least(holders) if holders else None


class ResidencyThenHash(ResidencyAware):
    """The same, but what no replica has goes to its place on the ring, not to just anybody."""

    has_home = True

    def choose(self, digest: str) -> int:
        holder = self._holder(digest)
        return next(filter(self.has_room(), self._ring.order(digest))) if holder is None else holder


ROUTERS: dict[str, type[Router]] = {
    "round robin": RoundRobin,
    "least outstanding": LeastOutstanding,
    "hash": ConsistentHash,
    "bounded hash": BoundedHash,
    "residency": ResidencyAware,
    "residency, then hash": ResidencyThenHash,
}
