"""Metrics by adapter, version and tenant: enough to judge a canary, never more than allowed."""

from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.adapter_metrics import (
    FIRST_TOKEN_BUCKETS,
    OTHER,
    SILENCE_SECONDS,
    AdapterLabels,
    AdapterMetrics,
    AdapterSample,
)

SAMPLE = AdapterSample("completed", 7, 3, 0.3, 0.0, ("device",))


LABELS = ("adapter", "version", "tenant", "outcome", "tier", "le")


def _key(name: str, labels: dict[str, str]) -> str:
    values = [labels[one] for one in LABELS if one in labels]
    assert len(values) == len(labels)
    return "|".join([name.removeprefix("repertoire_adapter_"), *values])


class Scene:
    def __init__(self, max_series: int = 3) -> None:
        self.now = 0.0
        self.gone: set[str] = set()
        self.metrics = AdapterMetrics(
            max_series,
            lambda labels: labels.adapter not in self.gone,
            ("completed", "failed"),
            lambda: self.now,
        )

    def count(
        self, name: str, version: str = "1", tenant: str = "default", **other: object
    ) -> None:
        self.metrics.count(AdapterLabels(name, version, tenant), replace(SAMPLE, **other))

    def samples(self) -> dict[str, float]:
        """By name and label values, as a scraper reads them."""
        registry = CollectorRegistry()
        registry.register(self.metrics)
        text = generate_latest(registry).decode()
        return {
            _key(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def requests(self) -> dict[str, float]:
        prefix = "requests_total|"
        found = self.samples().items()
        return {key.removeprefix(prefix): n for key, n in found if key.startswith(prefix) and n}


def test_what_has_not_happened_yet_is_0() -> None:
    scene = Scene()
    scene.count("alpha")
    assert scene.samples()["requests_total|alpha|1|default|failed"] == 0


def test_two_versions_can_be_compared() -> None:
    scene = Scene()
    scene.count("alpha", "1", seconds_to_first_token=0.2)
    scene.count("alpha", "1", seconds_to_first_token=0.4)
    scene.count("alpha", "2", outcome="failed", seconds_to_first_token=None, tiers=("disk",))
    scene.count("alpha", "2", load_seconds=1.5, tiers=("disk", "disk"))
    found = scene.samples()
    assert found["requests_total|alpha|1|default|completed"] == 2
    assert found["requests_total|alpha|2|default|failed"] == 1
    assert found["prompt_tokens_total|alpha|1|default"] == 14
    assert found["generation_tokens_total|alpha|1|default"] == 6
    assert found["load_seconds_total|alpha|2|default"] == 1.5
    assert found["lookups_total|alpha|2|default|disk"] == 3
    assert found["lookups_total|alpha|1|default|device"] == 2
    first = "time_to_first_token_seconds"
    assert found[f"{first}_bucket|alpha|1|default|0.25"] == 1
    assert found[f"{first}_bucket|alpha|1|default|0.5"] == 2
    assert found[f"{first}_bucket|alpha|1|default|+Inf"] == 2
    assert found[f"{first}_count|alpha|2|default"] == 1
    assert round(found[f"{first}_sum|alpha|1|default"], 6) == 0.6


def test_a_value_on_a_bound_is_at_or_below_it() -> None:
    scene = Scene()
    for seconds in (*FIRST_TOKEN_BUCKETS, 1000.0):
        scene.count("alpha", seconds_to_first_token=seconds)
    found = scene.samples()
    for number, bound in enumerate(FIRST_TOKEN_BUCKETS, start=1):
        key = f"time_to_first_token_seconds_bucket|alpha|1|default|{bound}"
        assert found[key] == number
    assert found["time_to_first_token_seconds_bucket|alpha|1|default|+Inf"] == number + 1


def test_a_storm_of_names_versions_and_tenants_makes_no_more_series_than_allowed() -> None:
    scene = Scene(max_series=3)
    for number in range(300):
        scene.count(f"name{number % 7}", str(number % 11), f"tenant{number % 13}")
    found = scene.requests()
    assert len(found) == 4
    assert sum(found.values()) == 300
    assert found[f"{OTHER.adapter}||{OTHER.tenant}|completed"] == 297


def test_a_deleted_name_takes_its_series_along_and_makes_room() -> None:
    scene = Scene(max_series=2)
    scene.count("alpha")
    scene.count("beta")
    scene.count("gamma")
    scene.gone.add("alpha")
    assert set(scene.requests()) == {"beta|1|default|completed", "_other||_other|completed"}
    scene.count("gamma")
    assert scene.requests()["gamma|1|default|completed"] == 1


def test_who_finishes_after_its_name_was_deleted_does_not_bring_it_back() -> None:
    scene = Scene()
    scene.gone.add("alpha")
    scene.count("alpha")
    assert scene.requests() == {}


def test_who_is_silent_for_long_makes_room_even_when_nobody_scrapes() -> None:
    scene = Scene(max_series=1)
    scene.count("alpha")
    scene.now = SILENCE_SECONDS + 1
    scene.count("beta")
    assert set(scene.requests()) == {"beta|1|default|completed"}


def test_who_is_still_asked_for_stays() -> None:
    scene = Scene(max_series=1)
    for _ in range(10):
        scene.now += SILENCE_SECONDS / 2
        scene.count("alpha")
    assert scene.requests() == {"alpha|1|default|completed": 10}
