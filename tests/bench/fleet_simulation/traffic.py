"""Who asks for what, when: seeded."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from service.core import AdapterRef, GenerationRequest, SamplingParams
from tests.bench.fleet_simulation.profile import Traffic


class Popularity:
    """Zipf's law over adapters in the order of their numbers."""

    def __init__(self, num_adapters: int, exponent: float) -> None:
        self._numbers = range(num_adapters)
        self._sums = list(accumulate(1 / (rank + 1) ** exponent for rank in self._numbers))

    def __len__(self) -> int:
        return len(self._numbers)

    def draw(self, chance: random.Random, count: int) -> list[int]:
        return chance.choices(self._numbers, cum_weights=self._sums, k=count)


@dataclass(frozen=True, slots=True)
class Surge:
    """For a part of the time everybody wants one adapter, beside the usual."""

    adapter: float
    """Its place by popularity, of all adapters."""
    start: float
    """Of the duration, as is `end`."""
    end: float
    share: float
    """Of its requests in the usual rate."""


def make_request(
    chance: random.Random, number: int, ref: AdapterRef, traffic: Traffic
) -> GenerationRequest:
    params = SamplingParams(chance.randint(*traffic.output), ignore_eos=True, seed=0)
    return GenerationRequest(str(number), (5,) * chance.randint(*traffic.prompt), params, ref)


def arrivals(
    chance: random.Random,
    popularity: Popularity,
    rate: float,
    count: int,
    surge: Surge | None = None,
) -> Iterator[tuple[float, int]]:
    """(second, adapter) in order: Poisson, `count` of the usual ones."""
    seconds = count / rate
    pairs = list(_poisson(chance, 0.0, seconds, rate, popularity))
    if surge is not None:
        start, end = surge.start * seconds, surge.end * seconds
        wanted = int(surge.adapter * len(popularity))
        pairs += [(at, wanted) for at in _moments(chance, start, end, surge.share * rate)]
    return iter(sorted(pairs))


def _poisson(
    chance: random.Random, start: float, end: float, rate: float, popularity: Popularity
) -> Iterator[tuple[float, int]]:
    moments = list(_moments(chance, start, end, rate))
    return zip(moments, popularity.draw(chance, len(moments)), strict=True)


def _moments(chance: random.Random, start: float, end: float, rate: float) -> Iterator[float]:
    now = start + chance.expovariate(rate)
    while now < end:
        yield now
        now += chance.expovariate(rate)
