"""Whose requests are turned away for being too many; a bounded number of tenants by name."""

import threading
from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from service.tenancy import OTHERS


class LimitedRequests(Collector):
    """Counted on the event loop, read by whoever scrapes."""

    def __init__(self, max_tenants: int) -> None:
        self._max_tenants = max_tenants
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, tenant: str) -> None:
        with self._lock:
            num_named = len(self._counts) - (OTHERS in self._counts)
            has_room = tenant in self._counts or num_named < self._max_tenants
            self._counts[tenant if has_room else OTHERS] += 1

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "repertoire_tenant_limited_requests",
            "Requests beyond a tenant's limits: answered with 429.",
            labels=["tenant"],
        )
        with self._lock:
            for tenant, count in self._counts.items():
                family.add_metric([tenant], count)
        yield family
