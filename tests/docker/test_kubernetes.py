"""The Kubernetes manifests: valid, and their pods such as the server can live in."""

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from service.api import health
from service.settings import Settings
from tests.docker.manifests import (
    FOLDER,
    Manifest,
    Manifests,
    documents,
    environment,
    load_manifests,
    ports_of,
    replica,
)
from tests.docker.settings_in_use import settings_of

KUBERNETES = "1.33"
"""The oldest that the manifests are for."""
MANIFESTS = load_manifests()
SECRETS = {"api-key": "client", "redis-password": "index", "store-key-id": "i", "store-key": "k"}
OF_EXTENSIONS = {"InferencePool", "HTTPRoute"}
CORE = [one for one in MANIFESTS.of_cluster.values() if one["kind"] not in OF_EXTENSIONS]
KUBECTL = shutil.which("kubectl")


@pytest.fixture
def manifests() -> Manifests:
    return load_manifests()


@pytest.fixture
def settings(manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_of(environment(manifests, "repertoire", SECRETS), monkeypatch)


@pytest.mark.parametrize("manifest", CORE, ids=lambda one: one["kind"])
@pytest.mark.parametrize("version", [KUBERNETES, kubernetes_validate.latest_version()])
def test_manifests_are_valid(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl here")
def test_kubectl_builds_what_is_checked_here(tmp_path: Path) -> None:
    built = _build(FOLDER)
    # It has the sum of its content in its name.
    named = {key for key in built if key[0] != "ConfigMap"}
    assert named == {
        key for key in MANIFESTS.of_cluster if key[0] not in {*OF_EXTENSIONS, "ConfigMap"}
    }
    with_gateway = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, with_gateway)
    kustomization = with_gateway / "kustomization.yaml"
    text = kustomization.read_text()
    kustomization.write_text(text.replace("# components: [", "components: ["))
    assert text != kustomization.read_text()
    assert {kind for kind, _ in _build(with_gateway)} - {kind for kind, _ in built} == OF_EXTENSIONS


def _build(folder: Path) -> dict[tuple[str, str], Manifest]:
    assert KUBECTL is not None
    command = [KUBECTL, "kustomize", str(folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    built = [one for one in yaml.safe_load_all(text) if one]
    assert all(one["metadata"].get("namespace", "repertoire") == "repertoire" for one in built)
    return {(one["kind"], one["metadata"]["name"]): one for one in built}


def test_the_server_starts_with_its_environment(settings: Settings, manifests: Manifests) -> None:
    ports = ports_of(replica(manifests))
    assert (settings.port, settings.metrics_port) == (ports["http"], ports["metrics"])
    assert settings.host == settings.metrics_host == "0.0.0.0"
    assert settings.has_keys
    assert settings.redis_url
    assert settings.redis_url.get_secret_value() == "redis://:index@repertoire-redis:6379/0"
    assert settings.replica_id == "repertoire-abcde"
    assert str(settings.adapters_store).startswith("s3://")


def test_a_pod_has_time_to_drain(settings: Settings, manifests: Manifests) -> None:
    grace = manifests.pods()["repertoire"]["spec"]["terminationGracePeriodSeconds"]
    assert settings.drain_delay >= 5, "endpoints are taken out everywhere"
    assert grace >= settings.drain_delay + settings.drain_timeout_s + 15


def test_probes_ask_what_the_server_answers(manifests: Manifests) -> None:
    container = replica(manifests)
    paths = {route.path for route in health.router.routes}  # type: ignore[attr-defined]
    probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    asked = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert asked == {"startup": "/health", "readiness": "/ready", "liveness": "/health"}
    assert set(asked.values()) <= paths
    assert {probe["httpGet"]["port"] for probe in probes.values()} <= set(ports_of(container))
    startup = probes["startup"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
    rollout = manifests.get("Deployment", "repertoire")["spec"]["progressDeadlineSeconds"]
    assert rollout > startup["periodSeconds"] * startup["failureThreshold"]


def test_processors_and_memory_are_what_the_server_counts_on(
    settings: Settings, manifests: Manifests
) -> None:
    resources = replica(manifests)["resources"]
    requests, limits = resources["requests"], resources["limits"]
    assert settings.threads == int(requests["cpu"])
    assert limits["memory"] == requests["memory"]
    assert settings.host_adapter_bytes < _bytes(limits["memory"]) / 2
    volumes = {one["name"]: one for one in manifests.pods()["repertoire"]["spec"]["volumes"]}
    data = _bytes(volumes["data"]["emptyDir"]["sizeLimit"])
    assert settings.disk_adapter_bytes + settings.max_upload_bytes < data
    assert data < _bytes(limits["ephemeral-storage"])


def _bytes(text: str) -> int:
    number = re.fullmatch(r"(\d+)Gi", text)
    assert number
    return int(number[1]) << 30


@pytest.mark.parametrize("name", MANIFESTS.pods())
def test_a_pod_may_do_no_more_than_it_has_to(name: str) -> None:
    pod = MANIFESTS.pods()[name]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    mounted = {one["name"] for one in container.get("volumeMounts", [])}
    assert mounted == {one["name"] for one in pod.get("volumes", [])}
    assert container["resources"]["limits"]["memory"]


def test_the_replicas_run_as_the_user_of_the_image(manifests: Manifests) -> None:
    dockerfile = (FOLDER.parents[1] / "Dockerfile").read_text()
    context = manifests.pods()["repertoire"]["spec"]["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile
    mounts = {one["mountPath"] for one in replica(manifests)["volumeMounts"]}
    assert mounts == {"/data", "/tmp"}
    account = manifests.get("ServiceAccount", "repertoire")
    assert manifests.pods()["repertoire"]["spec"]["serviceAccountName"] == "repertoire"
    assert account["automountServiceAccountToken"] is False


def test_images_are_pinned(manifests: Manifests) -> None:
    kustomization = documents(FOLDER / "kustomization.yaml")[0]
    tags = {one["name"]: str(one["newTag"]) for one in kustomization["images"]}
    for pod in manifests.pods().values():
        for container in pod["spec"]["containers"]:
            name, _, tag = container["image"].partition(":")
            assert re.match(r"v?\d+\.\d+", tags.get(name, tag)), container["image"]
            assert not (tag and name in tags)


def test_no_secret_is_written_down(manifests: Manifests) -> None:
    assert not manifests.all_of("Secret")
    keys = set()
    for pod in manifests.pods().values():
        for variable in pod["spec"]["containers"][0]["env"]:
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["name"] == "repertoire"
                keys.add(reference["key"])
            assert not re.search("KEY|PASSWORD", variable["name"]) or "value" not in variable
    assert keys == set(SECRETS)
    names = manifests.get("ConfigMap", "repertoire")["data"]
    assert not [one for one in names if re.search("KEY|PASSWORD|SECRET|TOKEN", one)]


def test_deployments_select_their_own_pods(manifests: Manifests) -> None:
    for deployment in manifests.all_of("Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert manifests.selected_by(selector) == {deployment["metadata"]["name"]}
    spread = manifests.pods()["repertoire"]["spec"]["topologySpreadConstraints"]
    assert len({one["topologyKey"] for one in spread}) == 2
    for constraint in spread:
        assert manifests.selected_by(constraint["labelSelector"]["matchLabels"]) == {"repertoire"}
