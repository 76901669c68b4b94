"""Results of one class of machines: a JSON file each, to which every run adds what it measured."""

import json
import os
import subprocess
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

import psutil
import torch

from tests.bench.engine.figures import Figure
from tests.bench.machine_class import CLASSES, instruction_class, machine_class
from tests.server import ROOT

_LOOK_S = 2.0
_QUIET_PERCENT = 5.0


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Under which the figures of one bar were taken."""

    machine: str
    load_average: tuple[float, float, float]
    """When the benchmark began."""
    busy_percent: float
    """Of the processors, just before the bar, when the benchmark did nothing: others' work."""
    commit: str
    date: str
    versions: dict[str, str]

    @classmethod
    def here(cls) -> "Circumstances":
        """When the benchmark begins."""
        versions = {name: metadata.version(name) for name in ("torch", "transformers")}
        return cls(
            ", ".join([machine_class(), *_gpus()]),
            os.getloadavg(),
            0.0,
            _commit(),
            datetime.now(UTC).date().isoformat(),
            {"python": python_version(), **versions},
        )

    def before_a_bar(self) -> "Circumstances":
        return replace(self, busy_percent=psutil.cpu_percent(_LOOK_S))

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        load = " ".join(f"{one:.2f}" for one in self.load_average)
        busy = f"{self.busy_percent:.0f} % of the processors busy with other work"
        if self.busy_percent > _QUIET_PERCENT:
            busy += ", DISTURBED"
        return (
            f"{self.machine}; load average at the start {load}, then {busy}; {versions}; "
            f"{self.commit}, {self.date}"
        )


@dataclass(frozen=True, slots=True)
class BarResult:
    number: int
    circumstances: Circumstances
    seconds: float
    figures: tuple[Figure, ...]

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "BarResult":
        about = raw["circumstances"]
        load_average = tuple(about["load_average"])
        return cls(
            raw["number"],
            Circumstances(**{**about, "load_average": load_average}),
            raw["seconds"],
            tuple(Figure(**figure) for figure in raw["figures"]),
        )


Results = dict[str, dict[int, BarResult]]
"""By class of machines, then by bar."""


def load_results(folder: Path) -> Results:
    found: Results = {}
    for name in CLASSES:
        if (path := folder / f"{name}.json").exists():
            bars = map(BarResult.of, json.loads(path.read_text()))
            found[name] = {bar.number: bar for bar in bars}
    return found


def add_result(folder: Path, result: BarResult) -> None:
    """In place of what this class of machines had for that bar."""
    name = instruction_class()
    known = load_results(folder).get(name, {}) | {result.number: result}
    bars = [asdict(known[number]) for number in sorted(known)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(bars, indent=1, ensure_ascii=False) + "\n")


def _gpus() -> list[str]:
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return f"commit {done.stdout.strip()}"
