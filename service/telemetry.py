"""Logging and metrics. Prompts and completions are never logged; knows no HTTP."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.core import EngineStats, Phase, TierStats, Timeline

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


def configure_logging(level: str, log_format: Literal["console", "json"]) -> None:
    """One stream of lines on stderr, those of other libraries included."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(log_format),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "filelock", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _renderers(log_format: Literal["console", "json"]) -> list[Any]:
    if log_format == "json":
        # Locals of a frame may hold a prompt, so only the plain traceback is written.
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]


@dataclass(slots=True)
class RequestRecord:
    """What the access log says of one request; filled by whoever learns it. No content."""

    request_id: str
    tenant: str | None = None
    key_id: str | None = None
    """Public id of the managed key that was sent."""
    started: float = field(default_factory=time.monotonic)
    model: str | None = None
    adapter: str | None = None
    version: int | None = None
    num_prompt_tokens: int | None = None
    num_generated_tokens: int | None = None
    seconds_to_first_token: float | None = None
    timeline: Timeline | None = None
    """Of the slowest of its sequences."""
    phases: list[Phase] = field(default_factory=list)
    """Of an upload: receive, compile, verify, commit."""
    error: str | None = None

    def fields(self) -> dict[str, Any]:
        values = {
            "tenant": self.tenant,
            "key": self.key_id,
            "model": self.model,
            "adapter": self.adapter,
            "version": self.version,
            "prompt_tokens": self.num_prompt_tokens,
            "generated_tokens": self.num_generated_tokens,
            "ttft_s": self.seconds_to_first_token and round(self.seconds_to_first_token, 4),
            **_timings(self.timeline),
            **_milliseconds(self.phases),
            "error": self.error,
        }
        return {name: value for name, value in values.items() if value is not None}


def _timings(timeline: Timeline | None) -> dict[str, Any]:
    if timeline is None:
        return {}
    phases = _milliseconds(timeline.phases())
    return {"tier": timeline.tier or None, **phases, "preempted": timeline.is_preempted or None}


def _milliseconds(phases: Iterable[Phase]) -> dict[str, float]:
    return {f"{one.name}_ms": round(one.seconds * 1000, 1) for one in phases}


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """What a tracer is told."""

    method: str
    endpoint: str
    """The route's template."""
    status: int
    ended: float
    """Monotonic seconds."""
    headers: Mapping[str, str]
    """As they came, names in lower case: they may say which trace it belongs to."""
    record: RequestRecord


class Tracer(Protocol):
    def record(self, request: FinishedRequest) -> str | None:
        """The id of the trace, for the log; None where there is none."""

    def close(self) -> None:
        """Blocking."""


class Metrics:
    """Every series of the service, on a registry of its own. Labels are bounded: no names but
    those of `more`."""

    def __init__(self, engine_stats: Callable[[], EngineStats], *more: Collector) -> None:
        self.registry = CollectorRegistry()
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
        for collector in (EngineCollector(engine_stats), *more):
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


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is handed to whoever measures or logs."""

    metrics: Metrics
    log: Any
    """A structlog logger; its own types change with the configuration."""
    tracer: Tracer | None = None
    """None unless a collector is configured."""
