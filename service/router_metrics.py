"""What routers read to send a request where its adapter is: under the names that vLLM has for it.

The endpoint pickers of the Gateway API Inference Extension and of llm-d know these names unasked.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LOAD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""

_OF_ENGINE = ["model_name", "engine"]
_ENGINE = "0"
"""vLLM numbers the engines of a process; here it is one."""


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    name: str
    """As `model` says it."""
    level: Literal["gpu", "cpu"]
    """The fastest memory that has it: the device's, whatever that is, or the host's."""
    is_pinned: bool
    """It does not leave this level for want of room."""
    rank: int


@dataclass(frozen=True, slots=True)
class RouterState:
    model: str
    """Served name of the base."""
    num_running: int
    num_waiting: int
    """Cold ones included."""
    kv_usage: float
    """From 0 to 1."""
    block_size: int
    num_blocks: int
    max_on_device: int
    num_on_device: int
    num_in_host: int
    """Those that are on the device too included."""
    running: Sequence[str]
    """Adapters with sequences in the batch; as `model` says them, none twice."""
    waiting: Sequence[str]
    """Adapters of which sequences wait and none runs; together with `running` they are counted
    against `max_on_device`."""
    loaded: Sequence[LoadedAdapter]


def adapter_load_seconds() -> Histogram:
    """By base, engine and transition; on no registry yet."""
    return Histogram(
        "vllm:lora_adapter_load_seconds",
        "Time to bring an adapter into host memory (load), and on to the device (activate).",
        [*_OF_ENGINE, "transition"],
        buckets=LOAD_BUCKETS,
        registry=None,
    )


def load_observer(histogram: Histogram, model: str) -> Callable[[str, float], None]:
    """Both transitions are there from the start: a reader tells 0 from unknown."""
    series = {name: histogram.labels(model, _ENGINE, name) for name in ("load", "activate")}

    def observe(transition: str, seconds: float) -> None:
        series[transition].observe(seconds)

    return observe


class RouterMetrics(Collector):
    """Made anew for every scrape, so nothing that is gone leaves a series behind."""

    def __init__(
        self, state: Callable[[], RouterState], clock: Callable[[], float] = time.time
    ) -> None:
        self._state = state
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        for name, text, value in _gauges(state):
            family = GaugeMetricFamily(f"vllm:{name}", text, labels=_OF_ENGINE)
            family.add_metric([state.model, _ENGINE], value)
            yield family
        yield _cache_config(state)
        yield _requests_info(state, self._clock())
        yield _adapter_loaded(state)


def _gauges(state: RouterState) -> Iterable[tuple[str, str, float]]:
    yield "num_requests_running", "Sequences in the batch.", state.num_running
    yield "num_requests_waiting", "Sequences that wait.", state.num_waiting
    yield "kv_cache_usage_perc", "Share of KV blocks in use; 1 is all.", state.kv_usage
    yield "num_gpu_loaded_lora_adapters", "Adapters on the device.", state.num_on_device
    yield "num_cpu_loaded_lora_adapters", "Adapters in host memory.", state.num_in_host
    yield "max_gpu_lora_adapters", "Adapters that fit on the device.", state.max_on_device


def _cache_config(state: RouterState) -> Metric:
    labels = [*_OF_ENGINE, "block_size", "num_gpu_blocks"]
    family = GaugeMetricFamily("vllm:cache_config_info", "Layout of the KV cache.", labels=labels)
    family.add_metric([state.model, _ENGINE, str(state.block_size), str(state.num_blocks)], 1)
    return family


def _requests_info(state: RouterState, now: float) -> Metric:
    """One series, also while nobody asks for anything; its value is when it was true."""
    family = GaugeMetricFamily(
        "vllm:lora_requests_info",
        "Adapters that are asked for now; the value is the time in Unix seconds.",
        labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
    )
    lists = [",".join(state.running), ",".join(state.waiting)]
    family.add_metric([str(state.max_on_device), *lists], now)
    return family


def _adapter_loaded(state: RouterState) -> Metric:
    family = GaugeMetricFamily(
        "vllm:lora_adapter_loaded",
        "1 for every adapter in memory, at the fastest level that has it.",
        labels=[*_OF_ENGINE, "adapter_name", "level", "pinned", "rank"],
    )
    for one in state.loaded:
        labels = [one.name, one.level, str(one.is_pinned).lower(), str(one.rank)]
        family.add_metric([state.model, _ENGINE, *labels], 1)
    return family
