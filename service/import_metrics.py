"""How adapters are fetched, for Prometheus. Counted on the event loop, read by whoever scrapes."""

import threading
from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class ImportMetrics(Collector):
    """Labels are bounded: schemes, states and kinds of errors are the service's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._ended: Counter[tuple[str, str]] = Counter()

    def move(self, old: str | None, new: str | None) -> None:
        """An import leaves a state for another; None is before the first and after the last."""
        with self._lock:
            if old is not None:
                self._running[old] -= 1
            if new is not None:
                self._running[new] += 1

    def count_bytes(self, scheme: str, num_bytes: int) -> None:
        with self._lock:
            self._bytes[scheme] += num_bytes

    def count_end(self, scheme: str, outcome: str) -> None:
        with self._lock:
            self._ended[scheme, outcome] += 1

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily(
            "repertoire_imports_running", "Imports that are not over.", labels=["state"]
        )
        num_bytes = CounterMetricFamily(
            "repertoire_import_bytes", "Fetched for imports.", labels=["scheme"]
        )
        ended = CounterMetricFamily(
            "repertoire_imports",
            "Imports that are over: ready, cancelled, or what has failed.",
            labels=["scheme", "outcome"],
        )
        with self._lock:
            for state, count in self._running.items():
                running.add_metric([state], count)
            for scheme, count in self._bytes.items():
                num_bytes.add_metric([scheme], count)
            for labels, count in self._ended.items():
                ended.add_metric(labels, count)
        return [running, num_bytes, ended]
