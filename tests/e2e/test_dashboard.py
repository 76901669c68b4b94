"""Every query of the Grafana dashboard names metrics and labels that a running server exposes."""

import json
from collections import defaultdict
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.settings import Settings
from tests.e2e.observed import Observed
from tests.e2e.promql import TARGET_LABELS, Exposed, problems
from tests.server import ROOT

DOCKER = ROOT / "docker"
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/repertoire.json").read_text())
TARGETS = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']}-{target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
VARIABLES = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]


@pytest.fixture(scope="module")
def exposed(observed: Observed) -> Exposed:
    return labels_by_name(observed.metrics)


def labels_by_name(text: str) -> Exposed:
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return {name: frozenset(labels) for name, labels in found.items()}


@pytest.mark.parametrize(("query", "legend"), TARGETS)
def test_every_query_asks_for_what_there_is(query: str, legend: str, exposed: Exposed) -> None:
    query = with_values(query)
    assert problems(query, legend, exposed) == []


def with_values(query: str) -> str:
    """The dashboard's own variables replaced, as Grafana does; no other may be left."""
    for variable in VARIABLES:
        query = query.replace(f"${variable['name']}", ".*")
    assert "$" not in query.replace("$__rate_interval", "")
    return query


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda one: one["name"])
def test_every_variable_lists_what_there_is(variable: dict[str, Any], exposed: Exposed) -> None:
    query = variable["query"]["query"]
    metric, label = query.removeprefix("label_values(").removesuffix(")").split(", ")
    assert label in exposed[metric] | TARGET_LABELS


@pytest.mark.parametrize(
    "wrong",
    [
        "rate(repertoire_request_total[5m])",
        "rate(repertoire_requests[5m])",
        'repertoire_requests_total{stat="429"}',
        "sum by (route) (rate(repertoire_requests_total[5m]))",
        "histogram_quantile(0.9, rate(repertoire_requests_total[5m]))",
        'sum(repertoire_requests_total) / sum(repertoire_adapter_requests_total{tennant="x"})',
        "repertoire_requests_total / on (adapter) repertoire_adapter_requests_total",
    ],
)
def test_a_misspelt_metric_or_label_is_found(wrong: str, exposed: Exposed) -> None:
    assert len(problems(wrong, "", exposed)) == 1


def test_a_legend_that_nothing_fills_is_found(exposed: Exposed) -> None:
    right = "sum by (status) (rate(repertoire_requests_total[5m]))"
    assert problems(right, "{{status}}", exposed) == []
    with pytest.raises(AssertionError, match="does not keep endpoint"):
        problems(right, "{{endpoint}}", exposed)


def test_what_is_no_promql_is_found(exposed: Exposed) -> None:
    with pytest.raises(ValueError, match="parenthesis"):
        problems("sum(rate(repertoire_requests_total[5m])", "", exposed)


def test_panels_have_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (one["gridPos"] for one in panels):
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert max(columns) < 24
        assert not cells & taken
        taken |= cells


def test_prometheus_scrapes_the_port_that_the_server_is_given() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    given = compose["services"]["repertoire"]["environment"]
    scraped = yaml.safe_load((DOCKER / "prometheus.yaml").read_text())["scrape_configs"][0]
    port = given["REPERTOIRE_METRICS_PORT"]
    assert scraped["static_configs"][0]["targets"] == [f"repertoire:{port}"]
    names = {f"REPERTOIRE_{name.upper()}" for name in Settings.model_fields}
    assert set(given) <= names
    published = compose["services"]["repertoire"]["ports"]
    assert not any(port in one for one in published), "it needs no key"


def test_grafana_finds_what_it_is_given() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    mounted = dict(one.split(":")[:2] for one in compose["services"]["grafana"]["volumes"])
    provisioning = DOCKER / "grafana/provisioning"
    provider = yaml.safe_load((provisioning / "dashboards/repertoire.yaml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    assert mounted["./grafana/dashboards"] == folder
    source = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
