"""`/metrics` as the endpoint pickers of llm-d and the Gateway API Inference Extension read it."""

import math
import re
from dataclasses import dataclass
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

_INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class Loaded:
    level: str
    pinned: bool
    rank: int


@dataclass(frozen=True)
class Seen:
    """What a picker knows of one endpoint after a scrape."""

    num_waiting: int
    num_running: int
    kv_usage: float
    block_size: int
    num_blocks: int
    active: frozenset[str]
    waiting: frozenset[str]
    max_active: int
    loaded: dict[str, Loaded]
    num_on_gpu: int
    num_on_cpu: int
    max_on_gpu: int
    base: str
    seconds: dict[str, float]
    """Mean time of each transition that there has been."""

    def affinity(self, model: str) -> float:
        """How `lora-affinity-scorer` rates it."""
        if model in self.active:
            return 1.0
        if len(self.active) + len(self.waiting) < self.max_active:
            return 0.8
        return 0.6 if model in self.waiting else 0.0

    def load_state(self, model: str) -> float:
        """How `lora-load-state-scorer` rates it, but for its bonuses."""
        if model in self.loaded:
            return 1.0 if self.loaded[model].level == "gpu" else 0.7
        if self.num_on_gpu < self.max_on_gpu:
            return 0.6
        on_gpu = {name: one for name, one in self.loaded.items() if one.level == "gpu"}
        is_idle = any(not one.pinned and name not in self.active for name, one in on_gpu.items())
        return 0.3 if is_idle else 0.0


def read(text: str) -> Seen:
    families = {one.name: one for one in text_string_to_metric_families(text)}
    _check_series(text)
    requests = _largest(families["vllm:lora_requests_info"])
    cache = families["vllm:cache_config_info"].samples[0].labels
    return Seen(
        num_waiting=int(_value(families, "vllm:num_requests_waiting")),
        num_running=int(_value(families, "vllm:num_requests_running")),
        kv_usage=_value(families, "vllm:kv_cache_usage_perc"),
        block_size=_atoi(cache["block_size"]),
        num_blocks=_atoi(cache["num_gpu_blocks"]),
        active=_names(requests["running_lora_adapters"]),
        waiting=_names(requests["waiting_lora_adapters"]),
        max_active=_atoi(requests["max_lora"]),
        loaded=_loaded(families),
        num_on_gpu=int(_value(families, "vllm:num_gpu_loaded_lora_adapters")),
        num_on_cpu=int(_value(families, "vllm:num_cpu_loaded_lora_adapters")),
        max_on_gpu=int(_value(families, "vllm:max_gpu_lora_adapters")),
        base=families["vllm:num_gpu_loaded_lora_adapters"].samples[0].labels["model_name"],
        seconds=_mean_seconds(families["vllm:lora_adapter_load_seconds"]),
    )


def _check_series(text: str) -> None:
    """A parser refuses a text that has a series twice; Python's does not."""
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(set(series)) == len(series)


def _largest(family: Metric) -> dict[str, str]:
    """Labels of the series whose value, a time, is the largest."""
    latest, found = -1.0, None
    for sample in family.samples:
        if sample.value > latest:
            latest, found = sample.value, sample.labels
    assert found is not None
    return found


def _value(families: dict[str, Metric], name: str) -> float:
    (sample,) = families[name].samples
    assert families[name].type == "gauge"
    value: float = sample.value
    assert math.isfinite(value)
    return value


def _atoi(text: str) -> int:
    """Go's: no blanks, nothing but digits."""
    assert _INTEGER.fullmatch(text), text
    return int(text)


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",")) - {""}


def _loaded(families: dict[str, Metric]) -> dict[str, Loaded]:
    found: dict[str, Loaded] = {}
    for sample in families["vllm:lora_adapter_loaded"].samples:
        labels: dict[str, Any] = sample.labels
        assert sample.value == 1
        assert labels["level"] in ("gpu", "cpu")
        assert labels["adapter_name"] not in found, "a name has one level"
        one = Loaded(labels["level"], labels["pinned"] == "true", _atoi(labels["rank"]))
        found[labels["adapter_name"]] = one
    return found


def _mean_seconds(family: Metric) -> dict[str, float]:
    assert family.type == "histogram"
    by_name = {(one.name[-6:], one.labels["transition"]): one.value for one in family.samples}
    counts = {name: value for (end, name), value in by_name.items() if end == "_count"}
    assert counts.keys() == {"load", "activate"}, "both are there from the start"
    sums = {
        one.labels["transition"]: one.value for one in family.samples if one.name[-4:] == "_sum"
    }
    return {name: sums[name] / count for name, count in counts.items() if count}
