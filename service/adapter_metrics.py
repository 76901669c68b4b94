"""Series by adapter, version and tenant, as many as an operator allows and no more.

Names are the clients' to choose, so nothing else would bound the memory of a server, nor of the
Prometheus that scrapes it.
"""

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.tenancy import OTHERS

FIRST_TOKEN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. Few, because every version has all of them."""

SILENCE_SECONDS = 6 * 3600.0
_PURGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class AdapterLabels:
    adapter: str
    version: str
    tenant: str
    """Whose requests they are, which need not be the adapter's own tenant."""


OTHER = AdapterLabels(OTHERS, "", OTHERS)
"""Everybody who found no room."""


@dataclass(frozen=True, slots=True)
class AdapterSample:
    """What one answer adds."""

    outcome: str
    num_prompt_tokens: int
    num_generated_tokens: int
    seconds_to_first_token: float | None
    load_seconds: float
    """That its slowest sequence waited for the adapter."""
    tiers: tuple[str, ...]
    """Where the adapter was found, once for each sequence."""


@dataclass(slots=True)
class _Series:
    last_used: float
    outcomes: Counter[str]
    tiers: Counter[str] = field(default_factory=Counter)
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    load_seconds: float = 0.0
    first_token_counts: list[int] = field(
        default_factory=lambda: [0] * (len(FIRST_TOKEN_BUCKETS) + 1)
    )
    first_token_seconds: float = 0.0

    def add(self, sample: AdapterSample) -> None:
        self.outcomes[sample.outcome] += 1
        self.tiers.update(sample.tiers)
        self.num_prompt_tokens += sample.num_prompt_tokens
        self.num_generated_tokens += sample.num_generated_tokens
        self.load_seconds += sample.load_seconds
        seconds = sample.seconds_to_first_token
        if seconds is not None:
            self.first_token_counts[bisect_left(FIRST_TOKEN_BUCKETS, seconds)] += 1
            self.first_token_seconds += seconds

    def first_token_buckets(self) -> Iterator[tuple[str, float]]:
        """(upper bound, how many were at or below it)"""
        total = 0
        bounds = [*map(str, FIRST_TOKEN_BUCKETS), "+Inf"]
        for bound, count in zip(bounds, self.first_token_counts, strict=True):
            total += count
            yield bound, total


class AdapterMetrics(Collector):
    """The first `max_series` get labels of their own, the rest share `OTHER`.

    Room is made again by versions that are served no more and by those nobody has asked for in
    `SILENCE_SECONDS`. Counted on the event loop, read by whoever scrapes.
    """

    def __init__(
        self,
        max_series: int,
        is_served: Callable[[AdapterLabels], bool],
        outcomes: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """All `outcomes` begin with 0: the rate of a series that is new misses its first count."""
        self._max_series = max_series
        self._is_served = is_served
        self._outcomes = outcomes
        self._clock = clock
        self._lock = threading.Lock()
        self._series: dict[AdapterLabels, _Series] = {}
        self._next_purge = 0.0

    def count(self, labels: AdapterLabels, sample: AdapterSample) -> None:
        now = self._clock()
        with self._lock:
            series = self._series.get(labels) or self._make(labels, now)
            series.last_used = now
            series.add(sample)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            self._purge(self._clock())
            return _families(self._series)

    def _make(self, labels: AdapterLabels, now: float) -> _Series:
        if self._is_full and now >= self._next_purge:
            self._next_purge = now + _PURGE_SECONDS
            self._purge(now)
        own = OTHER if self._is_full else labels
        if own not in self._series:
            self._series[own] = _Series(now, Counter(dict.fromkeys(self._outcomes, 0)))
        return self._series[own]

    @property
    def _is_full(self) -> bool:
        return len(self._series) - (OTHER in self._series) >= self._max_series

    def _purge(self, now: float) -> None:
        for labels, series in list(self._series.items()):
            is_silent = now - series.last_used > SILENCE_SECONDS
            if is_silent or not (labels == OTHER or self._is_served(labels)):
                del self._series[labels]


_LABELS = ["adapter", "version", "tenant"]


def _families(all_series: dict[AdapterLabels, _Series]) -> list[Metric]:
    requests = _counter("requests", "Requests, by how they ended.", "outcome")
    lookups = _counter("lookups", "Sequences, by the tier where their adapter was.", "tier")
    prompt = _counter("prompt_tokens", "Prompt tokens accepted.")
    generated = _counter("generation_tokens", "Tokens handed out.")
    load = _counter("load_seconds", "Time that requests waited for the adapter.")
    first = HistogramMetricFamily(
        "repertoire_adapter_time_to_first_token_seconds",
        "From a request's arrival to its first token.",
        labels=_LABELS,
    )
    for labels, series in all_series.items():
        values = [labels.adapter, labels.version, labels.tenant]
        for outcome, count in series.outcomes.items():
            requests.add_metric([*values, outcome], count)
        for tier, count in series.tiers.items():
            lookups.add_metric([*values, tier], count)
        prompt.add_metric(values, series.num_prompt_tokens)
        generated.add_metric(values, series.num_generated_tokens)
        load.add_metric(values, series.load_seconds)
        first.add_metric(values, list(series.first_token_buckets()), series.first_token_seconds)
    return [requests, lookups, prompt, generated, load, first]


def _counter(name: str, text: str, *more_labels: str) -> CounterMetricFamily:
    labels = [*_LABELS, *more_labels]
    return CounterMetricFamily(f"repertoire_adapter_{name}", text, labels=labels)
