"""Metrics that a scraper can read."""

import math

from prometheus_client.parser import text_string_to_metric_families

from service.core import EngineStats, TierStats
from service.metrics import Metrics

STATS = EngineStats(
    num_running=3,
    num_waiting=2,
    num_cold=1,
    kv_blocks_used=25,
    kv_blocks_total=100,
    num_steps=7,
    num_preemptions=4,
    prefix_cache_queries=90,
    prefix_cache_hits=64,
    tiers={
        "device": TierStats(hits=5, misses=2, evictions=1, loads=2, load_seconds=0.5, num_bytes=64),
        "host": TierStats(),
    },
)


def samples(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_engine_is_read_at_scrape_time() -> None:
    current = EngineStats()
    metrics = Metrics(lambda: current)
    assert samples(metrics)["repertoire_num_requests_running"] == 0
    current = STATS
    found = samples(metrics)
    assert found["repertoire_num_requests_running"] == 3
    assert found["repertoire_num_requests_waiting"] == 2
    assert found["repertoire_num_requests_cold"] == 1
    assert found["repertoire_kv_cache_usage_ratio"] == 0.25
    assert found["repertoire_engine_steps_total"] == 7
    assert found["repertoire_preemptions_total"] == 4
    assert found["repertoire_prefix_cache_query_tokens_total"] == 90
    assert found["repertoire_prefix_cache_hit_tokens_total"] == 64
    assert found["repertoire_adapter_tier_hits_total|device"] == 5
    assert found["repertoire_adapter_tier_load_seconds_total|device"] == 0.5
    assert found["repertoire_adapter_tier_bytes|device"] == 64
    assert found["repertoire_adapter_tier_misses_total|host"] == 0


def test_histograms_are_in_seconds() -> None:
    metrics = Metrics(EngineStats)
    metrics.time_to_first_token.observe(0.03)
    found = samples(metrics)
    assert found["repertoire_time_to_first_token_seconds_bucket|0.02"] == 0
    assert found["repertoire_time_to_first_token_seconds_bucket|0.04"] == 1
    assert math.isclose(found["repertoire_time_to_first_token_seconds_sum"], 0.03)


def test_two_services_in_a_process_do_not_share_series() -> None:
    one, other = Metrics(EngineStats), Metrics(EngineStats)
    one.prompt_tokens.inc(5)
    assert samples(other)["repertoire_prompt_tokens_total"] == 0
