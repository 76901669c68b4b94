"""How a replica is connected with the others, for Prometheus; read when somebody scrapes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class FleetState:
    is_redis_up: bool
    redis_down_s: float
    """For how long it has been away; 0 while it is there."""
    num_redis_errors: int
    num_replicas: int
    """That lived when that was last known, this one included."""
    is_store_up: bool
    num_announcements: int
    num_untold: int
    """Own changes that could not be announced when they were made."""
    num_comparisons: int
    num_failures: int
    lag_s: float
    """From the arrival of the last announcement until requests saw what it told."""


_GAUGES: tuple[tuple[str, str, Callable[[FleetState], float]], ...] = (
    ("redis_up", "Whether replicas can agree on changes.", lambda one: one.is_redis_up),
    ("redis_down_seconds", "How long Redis has been away.", lambda one: one.redis_down_s),
    ("store_up", "Whether the store answered when it was last asked.", lambda one: one.is_store_up),
    ("replicas", "Replicas that live, as far as is known.", lambda one: one.num_replicas),
    ("follow_lag_seconds", "Of the last announcement, until it held here.", lambda one: one.lag_s),
)
_COUNTERS: tuple[tuple[str, str, Callable[[FleetState], float]], ...] = (
    ("redis_errors", "Calls of Redis that failed.", lambda one: one.num_redis_errors),
    ("announcements_received", "Announcements of changes.", lambda one: one.num_announcements),
    ("announcements_untold", "Own changes announced late.", lambda one: one.num_untold),
    ("store_comparisons", "Looks at all that the store has.", lambda one: one.num_comparisons),
    ("follow_failures", "Changed logs that could not be read.", lambda one: one.num_failures),
)


class FleetCollector(Collector):
    def __init__(self, state: Callable[[], FleetState]) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        for name, text, read in _GAUGES:
            yield GaugeMetricFamily(f"repertoire_{name}", text, value=float(read(state)))
        for name, text, read in _COUNTERS:
            yield CounterMetricFamily(f"repertoire_{name}", text, value=read(state))
