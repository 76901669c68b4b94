"""The compose files of docker/, read as `docker compose` does: `${…}`, `<<` and `extends`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.server import ROOT

DOCKER = ROOT / "docker"
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def load_composition(name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Raises KeyError for a variable that has to be set."""
    text = (DOCKER / name).read_text()
    document: dict[str, Any] = yaml.safe_load(text)
    document = _interpolated(document, environment)
    for service, body in document["services"].items():
        if origin := body.pop("extends", None):
            base = load_composition(origin["file"], environment)["services"][origin["service"]]
            document["services"][service] = _merged(base, body)
    return document


def variables(name: str) -> dict[str, str]:
    """Of the file: what becomes of each where it is not set, `?` if the start is refused."""
    found = _VARIABLE.findall((DOCKER / name).read_text())
    return {variable: "?" if sign == "?" else default for variable, sign, default in found}


def seconds(text: str) -> float:
    """`1m30s` and the like."""
    units = {"s": 1, "m": 60, "h": 3600}
    parts = re.findall(r"(\d+)([smh])", text)
    assert "".join(number + unit for number, unit in parts) == text
    return float(sum(int(number) * units[unit] for number, unit in parts))


def _interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(one, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [_interpolated(one, environment) for one in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, sign, default = match.groups()
        return environment[name] if sign == "?" else environment.get(name) or default or ""

    return _VARIABLE.sub(replace, value)


def _merged(base: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Mounts by the place where they are, everything else by its key."""
    mounts = {one.split(":")[1]: one for part in (base, body) for one in part.get("volumes", [])}
    return base | body | {"volumes": list(mounts.values())}


def mounted_files(service: Mapping[str, Any]) -> list[Path]:
    sources = [one.split(":")[0] for one in service.get("volumes", [])]
    return [DOCKER / one for one in sources if one.startswith(".")]


def mounted_volumes(service: Mapping[str, Any]) -> set[str]:
    return {one.split(":")[0] for one in service.get("volumes", []) if one[0] not in "./"}
