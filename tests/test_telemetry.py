"""Metrics that a scraper can read, and logs that say nothing of what users write."""

import json
import logging
import math
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from service.core import EngineStats, TierStats
from service.telemetry import Metrics, RequestRecord, configure_logging


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """The handler holds the test's own stderr, which is closed afterwards."""
    yield
    logging.getLogger().handlers.clear()


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


def test_json_lines_carry_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    with structlog.contextvars.bound_contextvars(request_id="r1", adapter="alpha", version=3):
        structlog.get_logger("x").info("hello", number=5)
        logging.getLogger("uvicorn.error").warning("from a library")
    own, foreign = map(json.loads, capsys.readouterr().err.splitlines())
    assert own["event"] == "hello"
    assert own["number"] == 5
    assert foreign["event"] == "from a library"
    for line in (own, foreign):
        assert line["request_id"] == "r1"
        assert line["adapter"] == "alpha"
        assert line["version"] == 3
        assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_is_logged_without_the_values_around_it(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Locals of a frame may hold a prompt, and pretty tracebacks show them."""
    configure_logging("info", log_format)  # type: ignore[arg-type]

    def fail(secret_prompt: str) -> None:
        raise ValueError("broken")

    try:
        fail("my secret" + " words")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    shown = capsys.readouterr().err
    assert "ValueError: broken" in shown
    assert "my secret words" not in shown


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "console")
    structlog.get_logger("x").info("quiet")
    assert capsys.readouterr().err == ""


def test_a_record_shows_what_is_known() -> None:
    record = RequestRecord("r1", model="tiny", num_prompt_tokens=0)
    assert record.fields() == {"model": "tiny", "prompt_tokens": 0}
