"""Every series of the service. Those that the engine counts are read when somebody scrapes."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.core import EngineStats, TierStats
from service.tenant_metrics import LimitedRequests

_SECONDS_TO_FIRST = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_SECONDS_BETWEEN = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_SECONDS_WHOLE = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0,
    40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
_SECONDS_OF_UPLOAD = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Every series of the service, on a registry of its own. Labels are bounded: no more names
    than are allowed."""

    def __init__(
        self, engine_stats: Callable[[], EngineStats], *more: Collector, max_tenants: int = 100
    ) -> None:
        self.registry = CollectorRegistry()
        self.limited = LimitedRequests(max_tenants)
        self.requests = Counter(
            "repertoire_requests", "Requests.", ["endpoint", "status"], registry=self.registry
        )
        self.prompt_tokens = Counter(
            "repertoire_prompt_tokens", "Prompt tokens accepted.", registry=self.registry
        )
        self.generation_tokens = Counter(
            "repertoire_generation_tokens", "Tokens handed out.", registry=self.registry
        )
        self.time_to_first_token = self._seconds(
            "time_to_first_token", "From a request's arrival to its first token.", _SECONDS_TO_FIRST
        )
        self.inter_token_latency = self._seconds(
            "inter_token_latency", "Between two tokens of a sequence.", _SECONDS_BETWEEN
        )
        self.upload_phases = Histogram(
            "repertoire_upload_phase_seconds",
            "Parts of an upload: receive, compile, verify, commit.",
            ["phase"],
            buckets=_SECONDS_OF_UPLOAD,
            registry=self.registry,
        )
        self.request_latency = self._seconds(
            "e2e_request_latency", "From a request's arrival to its end.", _SECONDS_WHOLE
        )
        for collector in (EngineCollector(engine_stats), self.limited, *more):
            self.registry.register(collector)

    def _seconds(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"repertoire_{name}_seconds", text, buckets=buckets, registry=self.registry
        )

    def render(self) -> bytes:
        """The text exposition format of Prometheus."""
        return generate_latest(self.registry)


class EngineCollector(Collector):
    """Reads the engine's own counters at scrape time, so that they cost nothing in between."""

    def __init__(self, engine_stats: Callable[[], EngineStats]) -> None:
        self._engine_stats = engine_stats

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        stats = self._engine_stats()
        usage = stats.kv_blocks_used / stats.kv_blocks_total if stats.kv_blocks_total else 0.0
        yield _gauge("num_requests_running", "Sequences in the batch.", stats.num_running)
        yield _gauge("num_requests_waiting", "Sequences in the queue.", stats.num_waiting)
        yield _gauge("num_requests_cold", "Waiting for their adapter.", stats.num_cold)
        yield _gauge("kv_cache_usage_ratio", "Share of KV blocks in use.", usage)
        yield _gauge("kv_blocks", "KV blocks.", stats.kv_blocks_total)
        yield _counter("engine_steps", "Forward passes.", stats.num_steps)
        yield _counter("preemptions", "Sequences sent back to the queue.", stats.num_preemptions)
        yield _counter("prefill_chunks", "Prefill chunks.", stats.num_prefill_chunks)
        yield _counter("engine_prompt_tokens", "Prompt tokens queued.", stats.prompt_tokens)
        yield _counter("engine_generated_tokens", "Tokens sampled.", stats.generated_tokens)
        yield _counter(
            "prefix_cache_query_tokens", "Tokens looked for.", stats.prefix_cache_queries
        )
        yield _counter(
            "prefix_cache_hit_tokens", "Tokens found, not computed.", stats.prefix_cache_hits
        )
        yield from _tier_metrics(stats.tiers)


_TIER_COUNTERS: tuple[tuple[str, str, Callable[[TierStats], float]], ...] = (
    ("adapter_tier_hits", "Lookups that found the adapter.", lambda tier: tier.hits),
    ("adapter_tier_misses", "Lookups that did not.", lambda tier: tier.misses),
    ("adapter_tier_evictions", "Adapters pushed out.", lambda tier: tier.evictions),
    ("adapter_tier_loads", "Adapters brought in.", lambda tier: tier.loads),
    ("adapter_tier_load_seconds", "Time spent on it.", lambda tier: tier.load_seconds),
)
_TIER_GAUGES: tuple[tuple[str, str, Callable[[TierStats], float]], ...] = (
    ("adapter_tier_bytes", "Bytes held.", lambda tier: tier.num_bytes),
    ("adapter_tier_budget_bytes", "Bytes allowed.", lambda tier: tier.budget_bytes),
    ("adapter_tier_adapters", "Adapters held.", lambda tier: tier.num_adapters),
)


def _tier_metrics(tiers: dict[str, TierStats]) -> Iterable[Metric]:
    for name, text, read in _TIER_COUNTERS:
        counter = CounterMetricFamily(f"repertoire_{name}", text, labels=["tier"])
        for tier, stats in tiers.items():
            counter.add_metric([tier], read(stats))
        yield counter
    for name, text, read in _TIER_GAUGES:
        gauge = GaugeMetricFamily(f"repertoire_{name}", text, labels=["tier"])
        for tier, stats in tiers.items():
            gauge.add_metric([tier], read(stats))
        yield gauge


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"repertoire_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"repertoire_{name}", text, value=value)
