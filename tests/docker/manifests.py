"""The manifests of docker/kubernetes, put together as `kubectl apply -k` does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.server import ROOT

FOLDER = ROOT / "docker" / "kubernetes"
GATEWAY = FOLDER / "gateway"

Manifest = dict[str, Any]


@dataclass
class Manifests:
    of_cluster: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    """By kind and name."""

    def all_of(self, kind: str) -> list[Manifest]:
        return [one for (of, _), one in self.of_cluster.items() if of == kind]

    def get(self, kind: str, name: str) -> Manifest:
        return self.of_cluster[kind, name]

    def pods(self) -> dict[str, Manifest]:
        """What deployments make pods of, by the deployment's name."""
        return {
            one["metadata"]["name"]: one["spec"]["template"] for one in self.all_of("Deployment")
        }

    def selected_by(self, selector: Mapping[str, str]) -> set[str]:
        """Deployments whose pods have these labels."""
        pods = self.pods().items()
        return {name for name, pod in pods if selector.items() <= pod["metadata"]["labels"].items()}


def load_manifests() -> Manifests:
    manifests = Manifests()
    for folder in (FOLDER, GATEWAY):
        kustomization = documents(folder / "kustomization.yaml")[0]
        for manifest in _resources(folder, kustomization):
            key = (manifest["kind"], manifest["metadata"]["name"])
            assert key not in manifests.of_cluster, key
            manifests.of_cluster[key] = manifest
    return manifests


def documents(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def _resources(folder: Path, kustomization: Manifest) -> Iterator[Manifest]:
    for file in kustomization["resources"]:
        yield from documents(folder / file)
    for generator in kustomization.get("configMapGenerator", []):
        data = dict(line for file in generator["envs"] for line in _lines(folder / file))
        metadata = {"name": generator["name"]}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name, value


def replica(manifests: Manifests) -> Manifest:
    """The container that serves."""
    container: Manifest = manifests.pods()["repertoire"]["spec"]["containers"][0]
    return container


def ports_of(container: Manifest) -> dict[str, int]:
    return {one["name"]: one["containerPort"] for one in container["ports"]}


def environment(
    manifests: Manifests, deployment: str, secrets: Mapping[str, str]
) -> dict[str, str]:
    """Of its one container, `$(NAME)` replaced."""
    container = manifests.pods()[deployment]["spec"]["containers"][0]
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= manifests.get("ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container["env"]:
        value = variable.get("value")
        if value is None:
            (kind, source), *rest = variable["valueFrom"].items()
            assert not rest
            value = secrets[source["key"]] if kind == "secretKeyRef" else f"{deployment}-abcde"
        for name, known in found.items():
            value = value.replace(f"$({name})", known)
        assert "$(" not in value
        found[variable["name"]] = value
    return found
