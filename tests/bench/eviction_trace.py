"""A seeded trace of requests for adapters of mixed sizes, through the real residency.

Time is virtual: a load takes what was measured for its bytes, on as many threads as the engine has.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from service.adapters.residency import Residency
from service.core import AdapterRef

LOAD_THREADS = 3
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class LoadCost:
    """Seconds of a load: fixed, and by byte."""

    fixed_s: float
    s_per_byte: float

    def seconds(self, num_bytes: int) -> float:
        return self.fixed_s + self.s_per_byte * num_bytes


@dataclass(frozen=True, slots=True)
class Trace:
    refs: list[AdapterRef]
    requests: list[tuple[float, int]]
    """(seconds, index of the adapter), in order."""

    @property
    def num_bytes(self) -> int:
        return sum(ref.compiled_bytes for ref in self.refs)


def make_trace(
    seed: int, cost: LoadCost, num_adapters: int, num_requests: int, exponent: float
) -> Trace:
    """Zipf popularity, independent of size; half way another tenth of the adapters is popular.

    Arrivals are Poisson, at half the rate that would keep the loaders busy if every one missed.
    """
    draw = random.Random(seed)
    sizes = [int(MIB * 2 ** draw.uniform(-2, 6)) for _ in range(num_adapters)]
    refs = [AdapterRef(f"a{i}", 1, f"d{i}", size) for i, size in enumerate(sizes)]
    weights = [1 / (rank + 1) ** exponent for rank in range(num_adapters)]
    order = list(range(num_adapters))
    draw.shuffle(order)
    half = draw.choices(order, weights, k=num_requests // 2)
    shift = num_adapters // 10
    order = order[shift:] + order[:shift]
    wanted = half + draw.choices(order, weights, k=num_requests - len(half))
    mean = sum(cost.seconds(sizes[one]) for one in wanted) / len(wanted)
    rate, now, requests = LOAD_THREADS / mean / 2, 0.0, []
    for one in wanted:
        now += draw.expovariate(rate)
        requests.append((now, one))
    return Trace(refs, requests)


@dataclass(slots=True)
class Outcome:
    num_requests: int = 0
    num_resident: int = 0
    """Requests that found their adapter in memory."""
    loaded_bytes: int = 0
    load_seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    """Of every request, for its load."""

    @property
    def hit_rate(self) -> float:
        return self.num_resident / self.num_requests

    def wait_at(self, quantile: float) -> float:
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


class Replay:
    """One run of a trace. Who is loaded is used at once and let go."""

    def __init__(self, trace: Trace, cost: LoadCost, policy: str, host_bytes: int) -> None:
        self._trace = trace
        self._cost = cost
        device_bytes = max(host_bytes // 4, max(ref.compiled_bytes for ref in trace.refs) + MIB)
        self._residency = Residency(device_bytes, host_bytes, policy)
        self._queue: deque[int] = deque()
        self._waiting: dict[int, list[float]] = {}
        self._loads: list[tuple[float, int]] = []
        self.outcome = Outcome()

    def run(self) -> Outcome:
        for now, index in self._trace.requests:
            self._finish_loads(now)
            self._arrive(now, index)
            self._start_loads(now)
        self._finish_loads(float("inf"))
        return self.outcome

    def _arrive(self, now: float, index: int) -> None:
        digest = self._trace.refs[index].digest
        self.outcome.num_requests += 1
        self._residency.count_lookup(digest)
        if self._residency.is_resident(digest):
            self.outcome.num_resident += 1
            self.outcome.waits.append(0.0)
            self._use(index)
            return
        if index not in self._waiting:
            self._queue.append(index)
        self._waiting.setdefault(index, []).append(now)

    def _start_loads(self, now: float) -> None:
        while self._queue and len(self._loads) < LOAD_THREADS:
            ref = self._trace.refs[self._queue[0]]
            if not self._residency.try_reserve_host(ref):
                return
            heapq.heappush(
                self._loads, (now + self._cost.seconds(ref.compiled_bytes), self._queue.popleft())
            )

    def _finish_loads(self, now: float) -> None:
        while self._loads and self._loads[0][0] <= now:
            end, index = heapq.heappop(self._loads)
            ref = self._trace.refs[index]
            seconds = self._cost.seconds(ref.compiled_bytes)
            self._residency.finish_load(ref.digest, seconds, num_holders=0)
            self.outcome.loaded_bytes += ref.compiled_bytes
            self.outcome.load_seconds += seconds
            for arrived in self._waiting.pop(index):
                self.outcome.waits.append(end - arrived)
                self._use(index)
            self._start_loads(end)

    def _use(self, index: int) -> None:
        ref = self._trace.refs[index]
        if self._residency.try_activate(ref) is not None:
            self._residency.deactivate(ref.digest)
        self._residency.take_plan()
