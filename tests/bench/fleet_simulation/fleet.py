"""Replicas behind a router, in virtual time."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.core import AdapterRef, GenerationRequest
from tests.bench.fleet_simulation.calendar import Calendar
from tests.bench.fleet_simulation.memory import Memory
from tests.bench.fleet_simulation.profile import Profile
from tests.bench.fleet_simulation.replica import Replica, Told
from tests.bench.fleet_simulation.routers import ROUTERS, Knobs, Sight


@dataclass(slots=True)
class Asked:
    """One request, and what became of it."""

    at: float
    adapter: int
    replica: int
    tier: str = ""
    """`device`, `host`, `disk` or `store`; empty = no token came."""
    first_token: float | None = None
    end: float | None = None
    problem: str = ""
    """`refused`, `lost` with its replica, or `late`: its adapter did not come in time."""


class Fleet:
    def __init__(
        self,
        routing: str,
        num_replicas: int,
        profile: Profile,
        memory: Memory,
        knobs: Knobs,
        calendar: Calendar | None = None,
    ) -> None:
        self.calendar = calendar or Calendar()
        self._profile, self._memory, self._knobs = profile, memory, knobs
        self.replicas: list[Replica] = []
        self.sight = Sight([], {})
        for _ in range(num_replicas):
            self._new_replica()
        self.router = ROUTERS[routing](self.sight, knobs)
        self.asked: dict[str, Asked] = {}
        self.num_ended = 0
        self.on_end: dict[str, Callable[[], None]] = {}
        """What a client does when its request has ended."""

    def publish(self) -> None:
        self.sight.published = {one: self.replicas[one].resident() for one in self.sight.live}

    def keep_publishing(self) -> None:
        self.publish()
        self.calendar.at(self.calendar.now + self._knobs.poll_s, self.keep_publishing)

    def submit(self, request: GenerationRequest, adapter: int) -> Asked:
        assert request.adapter is not None
        chosen = self.router.choose(request.adapter.digest)
        asked = Asked(self.calendar.now, adapter, chosen)
        self.asked[request.request_id] = asked
        self.sight.outstanding[chosen] += 1
        if not self.replicas[chosen].submit(request):
            self._end(asked, "refused")
        return asked

    def fill_disks(self, refs: Sequence[AdapterRef]) -> None:
        """With what each replica has been asked for in a long time, as far as there is room: what
        is asked of it first and most is what it has used last. The first of `refs` are popular."""
        seen: dict[int, list[tuple[int, int]]] = {one: [] for one in self.sight.live}
        for rank, ref in enumerate(refs):
            for place, one in enumerate(self.router.seen_by(ref.digest)):
                seen[one].append((place if self.router.has_home else 0, rank))
        for one, ranks in seen.items():
            self.replicas[one].fill_disk(refs[rank] for _, rank in sorted(ranks, reverse=True))

    def warm(self, refs: Iterable[AdapterRef], under_way: int, poll_every: int) -> None:
        """Fill memories and disks as these requests would, without simulating a step: the last
        `under_way` count as not answered, and residency is published every so many."""
        recent: deque[int] = deque()
        for number, ref in enumerate(refs):
            if number % poll_every == 0:
                self.publish()
            chosen = self.router.choose(ref.digest)
            self.replicas[chosen].warm(ref)
            self.sight.outstanding[chosen] += 1
            recent.append(chosen)
            if len(recent) > under_way:
                self.sight.outstanding[recent.popleft()] -= 1
        for chosen in recent:
            self.sight.outstanding[chosen] -= 1
        self.publish()

    def kill(self, replica: int) -> None:
        """Seen at once: by the requests that it no longer answers."""
        self.sight.live.remove(replica)
        for request_id in self.replicas[replica].kill():
            self._end(self.asked[request_id], "lost")
        self.router.refresh()

    def add(self) -> None:
        """With nothing in memory and nothing on its disk."""
        self._new_replica()
        self.router.refresh()

    def homes(self, refs: Iterable[AdapterRef]) -> Mapping[str, int]:
        return {ref.digest: self.router.home(ref.digest) for ref in refs}

    def _new_replica(self) -> None:
        number = len(self.replicas)
        self.replicas.append(Replica(self.calendar, self._profile, self._memory, self._told))
        self.sight.live.append(number)
        self.sight.outstanding[number] = 0

    def _told(self, told: Told) -> None:
        asked = self.asked[told.request_id]
        if told.is_first:
            asked.first_token, asked.tier = told.at, told.tier
        if told.is_end:
            self._end(asked, "late" if told.is_failed else "")
            self.on_end.pop(told.request_id, _nothing)()

    def _end(self, asked: Asked, problem: str) -> None:
        asked.end, asked.problem = self.calendar.now, problem
        self.num_ended += 1
        self.sight.outstanding[asked.replica] -= 1


def _nothing() -> None: ...


def chance(*seed: object) -> random.Random:
    return random.Random(" ".join(map(str, seed)))
