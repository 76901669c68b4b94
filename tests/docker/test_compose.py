"""The compose files: what they say of the server holds, and nothing lies open."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from service.settings import ENV_PREFIX, Settings, unknown_variables
from tests.docker.composition import (
    DOCKER,
    load_composition,
    mounted_files,
    mounted_volumes,
    seconds,
    variables,
)
from tests.docker.settings_in_use import settings_of
from tests.haproxy import CONFIG
from tests.server import ROOT, environment_of

FILES = ["compose.yaml", "fleet.compose.yaml"]
GIVEN = {
    "REPERTOIRE_API_KEY": "client",
    "REDIS_PASSWORD": "index",
    "STORE_KEY_ID": "id",
    "STORE_KEY": "store",
}
REPLICAS = ("replica-1", "replica-2")
KEYS = {
    "build", "cap_drop", "command", "depends_on", "entrypoint", "environment", "extends",
    "healthcheck", "image", "networks", "ports", "profiles", "pull_policy", "read_only", "restart",
    "security_opt", "stop_grace_period", "tmpfs", "user", "volumes",
}  # fmt: skip
SECRET = re.compile("KEY|PASSWORD|SECRET|TOKEN")


@pytest.fixture(params=FILES)
def composition(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load_composition(request.param, GIVEN)


@pytest.fixture
def fleet() -> dict[str, Any]:
    return load_composition("fleet.compose.yaml", GIVEN)


def servers(composition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    names = {"repertoire", *REPLICAS}
    return {name: one for name, one in composition["services"].items() if name in names}


def texts_of_deployment() -> Iterator[tuple[str, str]]:
    for path in (ROOT / "Dockerfile", *sorted(DOCKER.rglob("*"))):
        if path.is_file() and path.suffix != ".json":
            yield path.name, path.read_text()


def test_every_setting_that_is_named_exists() -> None:
    known = {"--" + name.replace("_", "-") for name in Settings.model_fields}
    named = 0
    for file, text in texts_of_deployment():
        variables = set(re.findall(rf"{ENV_PREFIX}[A-Z0-9_]*[A-Z0-9]", text))
        flags = set(re.findall(r"`(--[a-z-]+)`", text))
        assert unknown_variables(dict.fromkeys(variables, "")) == [], file
        assert flags <= known, file
        named += len(variables) + len(flags)
    assert named > 20


def test_servers_start_with_their_environment(
    composition: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert servers(composition)
    for name, service in servers(composition).items():
        settings = settings_of(service["environment"], monkeypatch)
        assert settings.has_keys
        grace = seconds(service["stop_grace_period"])
        assert grace > settings.drain_delay + settings.drain_timeout_s + 10, name


def test_replicas_differ_in_their_name_and_cache_alone(
    fleet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = servers(fleet).values()
    settings = [settings_of(one["environment"], monkeypatch) for one in (first, second)]
    assert [one.replica_id for one in settings] == list(REPLICAS)
    assert settings[0].model_copy(update={"replica_id": REPLICAS[1]}) == settings[1]
    assert str(settings[0].adapters_store).startswith("s3://")
    assert not mounted_volumes(first) & mounted_volumes(second)


def test_the_balancer_knows_the_replicas_and_the_base(
    fleet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.read_text()
    assert mounted_files(fleet["services"]["balancer"]) == [DOCKER / CONFIG.name]
    for number, (name, service) in enumerate(servers(fleet).items(), 1):
        settings = settings_of(service["environment"], monkeypatch)
        assert f"presetenv REPLICA_{number} {name}:{settings.port}" in config
        base = fleet["services"]["balancer"]["environment"]["BASE_MODEL"]
        assert base == settings.model_name


@pytest.mark.parametrize(
    ("compose", "file"),
    [("compose.yaml", "prometheus.yaml"), ("fleet.compose.yaml", "fleet.prometheus.yaml")],
)
def test_prometheus_scrapes_every_server(
    compose: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    composition = load_composition(compose, GIVEN)
    prometheus = composition["services"]["prometheus"]
    assert DOCKER / file in mounted_files(prometheus)
    jobs = yaml.safe_load((DOCKER / file).read_text())["scrape_configs"]
    targets = {one["job_name"]: one["static_configs"][0]["targets"] for one in jobs}
    expected = []
    for name, service in servers(composition).items():
        settings = settings_of(service["environment"], monkeypatch)
        assert settings.metrics_host == "0.0.0.0"
        assert set(service.get("networks", [])) >= set(prometheus.get("networks", []))
        expected.append(f"{name}:{settings.metrics_port}")
    assert targets["repertoire"] == expected
    for job in targets.values():
        assert {target.split(":")[0] for target in job} <= set(composition["services"])


@pytest.mark.parametrize("name", FILES)
def test_no_secret_has_a_value_of_its_own(name: str) -> None:
    assert all(value == "?" for one, value in variables(name).items() if SECRET.search(one))
    for missing in GIVEN:
        if missing in variables(name):
            with pytest.raises(KeyError, match=missing):
                load_composition(name, {k: v for k, v in GIVEN.items() if k != missing})
    for service in load_composition(name, GIVEN)["services"].values():
        for variable, value in service.get("environment", {}).items():
            assert not SECRET.search(variable) or value in GIVEN.values(), variable


def test_only_this_machine_reaches_what_is_published(composition: dict[str, Any]) -> None:
    for service in composition["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_nobody_but_the_replicas_reaches_redis_and_the_object_store(fleet: dict[str, Any]) -> None:
    for network, owners in (("index", {"redis"}), ("objects", {"objects", "bucket"})):
        assert fleet["networks"][network] == {"internal": True}
        members = {
            name for name, one in fleet["services"].items() if network in one.get("networks", [])
        }
        assert members == owners | set(REPLICAS)
        for owner in owners:
            assert fleet["services"][owner]["networks"] == [network]
            assert "ports" not in fleet["services"][owner]


def test_images_are_pinned_and_nothing_is_named_that_is_not_there(
    composition: dict[str, Any],
) -> None:
    services = composition["services"]
    used: set[str] = set()
    for name, service in services.items():
        assert set(service) <= KEYS, name
        assert "build" in service or re.search(r":v?\d+\.\d+", service["image"]), name
        assert set(service.get("depends_on", [])) <= set(services), name
        assert set(service.get("networks", [])) <= set(composition.get("networks", {})), name
        assert all(path.exists() for path in mounted_files(service)), name
        used |= mounted_volumes(service)
    assert used == set(composition["volumes"])


def test_what_a_replica_needs_is_healthy_before_it_starts(fleet: dict[str, Any]) -> None:
    services = fleet["services"]
    for replica in servers(fleet).values():
        assert replica["depends_on"] == {
            "redis": {"condition": "service_healthy"},
            "bucket": {"condition": "service_completed_successfully"},
        }
    assert services["bucket"]["depends_on"] == {"objects": {"condition": "service_healthy"}}
    for name in ("redis", "objects", "balancer"):
        assert services[name]["healthcheck"]["test"]


def test_replicas_write_nothing_but_their_volumes(fleet: dict[str, Any]) -> None:
    for replica in servers(fleet).values():
        assert replica["read_only"]
        assert replica["tmpfs"] == ["/tmp"]
        assert {mount.split(":")[1] for mount in replica["volumes"]} == {"/data"}
        assert replica["cap_drop"] == ["ALL"]


def test_the_bucket_is_made_once(monkeypatch: pytest.MonkeyPatch, fleet: dict[str, Any]) -> None:
    command = fleet["services"]["bucket"]["entrypoint"]
    script = DOCKER / command[1].rpartition("/")[2]
    assert f"docker/{script.name}" in (ROOT / "Dockerfile").read_text()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        credentials = fleet["services"]["bucket"]["environment"]
        environment = credentials | {"AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}
        for _ in range(2):
            subprocess.run(
                [sys.executable, script, *command[2:]],
                env=environment_of({}) | environment,
                check=True,
                timeout=120,
            )
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        buckets = boto3.client("s3").list_buckets()["Buckets"]
        # Those of other tests are in the same moto.
        assert [one["Name"] for one in buckets].count("repertoire") == 1
    finally:
        server.stop()
