"""The Kubernetes manifests: who reaches whom, and how many there are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml

from service.core import EngineStats
from service.metrics import Metrics
from tests.docker.manifests import (
    FOLDER,
    GATEWAY,
    Manifests,
    documents,
    load_manifests,
    ports_of,
    replica,
)


@pytest.fixture
def manifests() -> Manifests:
    return load_manifests()


def test_services_reach_ports_that_their_pods_have(manifests: Manifests) -> None:
    targets = {"repertoire": "repertoire", "repertoire-replicas": "repertoire"}
    targets["repertoire-redis"] = "repertoire-redis"
    for service in manifests.all_of("Service"):
        deployment = targets.pop(service["metadata"]["name"])
        assert manifests.selected_by(service["spec"]["selector"]) == {deployment}
        container = manifests.pods()[deployment]["spec"]["containers"][0]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports_of(container)
    assert not targets
    headless = manifests.get("Service", "repertoire-replicas")["spec"]
    assert headless["clusterIP"] == "None"
    for port in headless["ports"]:
        assert port["port"] == ports_of(replica(manifests))[port["targetPort"]]


def test_redis_is_reached_by_replicas_alone(manifests: Manifests) -> None:
    policy = manifests.get("NetworkPolicy", "repertoire-redis")["spec"]
    assert manifests.selected_by(policy["podSelector"]["matchLabels"]) == {"repertoire-redis"}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    (rule,) = policy["ingress"]
    (source,) = rule["from"]
    assert set(source) == {"podSelector"}
    assert manifests.selected_by(source["podSelector"]["matchLabels"]) == {"repertoire"}
    (port,) = rule["ports"]
    assert port["port"] in ports_of(manifests.pods()["repertoire-redis"]["spec"]["containers"][0])


def test_metrics_are_not_for_everybody(manifests: Manifests) -> None:
    policy = manifests.get("NetworkPolicy", "repertoire")["spec"]
    assert manifests.selected_by(policy["podSelector"]["matchLabels"]) == {"repertoire"}
    rules = {rule["ports"][0]["port"]: rule for rule in policy["ingress"]}
    assert all(len(rule["ports"]) == 1 for rule in policy["ingress"])
    assert set(rules) == set(ports_of(replica(manifests)))
    assert rules["metrics"]["from"]
    assert all(one for one in rules["metrics"]["from"])


def test_the_autoscaler_and_the_disruption_budget_leave_a_replica(manifests: Manifests) -> None:
    scaler = manifests.get("HorizontalPodAutoscaler", "repertoire")["spec"]
    target = manifests.get(scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"], "each apply would undo what the autoscaler did"
    budget = manifests.get("PodDisruptionBudget", "repertoire")["spec"]
    assert manifests.selected_by(budget["selector"]["matchLabels"]) == {"repertoire"}
    assert 0 < budget["maxUnavailable"] < scaler["minReplicas"] < scaler["maxReplicas"]
    assert target["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_autoscaler_reads_what_the_server_says(manifests: Manifests) -> None:
    (metric,) = manifests.get("HorizontalPodAutoscaler", "repertoire")["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert f"\n{name} " in Metrics(EngineStats).render().decode()
    (rule,) = documents(FOLDER / "prometheus-adapter.yaml")[0]["rules"]["custom"]
    assert rule["seriesQuery"].partition("{")[0] == name
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}
    promql_parser.parse(rule["seriesQuery"])
    query = rule["metricsQuery"]
    for template, value in (("Series", name), ("LabelMatchers", 'pod="a"'), ("GroupBy", "pod")):
        assert f"<<.{template}>>" in query
        query = query.replace(f"<<.{template}>>", value)
    promql_parser.parse(query)
    annotations = manifests.pods()["repertoire"]["metadata"]["annotations"]
    port = ports_of(replica(manifests))["metrics"]
    assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)}


def test_the_pool_is_as_its_definition_wants_it(manifests: Manifests) -> None:
    path = Path(__file__).parent / "schemas" / "inference-pool.yaml"
    schema = _closed(yaml.safe_load(path.read_text()))
    pool = manifests.get("InferencePool", "repertoire")
    assert pool["apiVersion"] == "inference.networking.k8s.io/v1"
    jsonschema.validate(pool["spec"], schema)
    with pytest.raises(jsonschema.ValidationError, match="targetPort"):
        jsonschema.validate(pool["spec"] | {"targetPort": 1}, schema)


def _closed(schema: Any) -> Any:
    """As strict as the validation of the core kinds: nothing that is not named."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return {"additionalProperties": False} | closed if "properties" in closed else closed


def test_the_gateway_leads_to_the_replicas(manifests: Manifests) -> None:
    pool = manifests.get("InferencePool", "repertoire")["spec"]
    assert manifests.selected_by(pool["selector"]["matchLabels"]) == {"repertoire"}
    assert pool["targetPorts"] == [{"number": ports_of(replica(manifests))["http"]}]
    routes = manifests.get("HTTPRoute", "repertoire")["spec"]["rules"]
    for reference in (one for rule in routes for one in rule["backendRefs"]):
        backend = manifests.get(reference.get("kind", "Service"), reference["name"])
        if backend["kind"] == "Service":
            assert reference["port"] in [one["port"] for one in backend["spec"]["ports"]]


def test_the_endpoint_picker_scrapes_the_replicas_of_the_pool(manifests: Manifests) -> None:
    values = documents(GATEWAY / "endpoint-picker.yaml")[0]["router"]
    pool = manifests.get("InferencePool", "repertoire")
    assert values["modelServers"]["matchLabels"] == pool["spec"]["selector"]["matchLabels"]
    assert values["inferencePool"]["create"] is False
    reference = pool["spec"]["endpointPickerRef"]
    assert reference["name"] == f"{pool['metadata']['name']}-epp"
    picker = values["epp"]
    config = yaml.safe_load(picker["pluginsCustomConfig"][picker["pluginsConfigFile"]])
    plugins = {one["type"]: one.get("parameters", {}) for one in config["plugins"]}
    port = ports_of(replica(manifests))["metrics"]
    assert plugins["metrics-data-source"]["port"] == port
    assert set(_plugin_references(config)) == set(plugins)


def _plugin_references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _plugin_references(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key == "pluginRef":
                yield one
            else:
                yield from _plugin_references(one)
