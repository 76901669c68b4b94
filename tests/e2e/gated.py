"""The whole service in this process, over HTTP, with every step and every load under control."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from service.api.dependencies import Services
from service.app import create_app
from service.bootstrap import build_services
from service.engine.async_engine import AsyncEngine
from service.settings import Settings
from service.step import Step, StepResult
from tests.api.conftest import serve
from tests.server import share_kernels

PATIENCE = 30
"""Seconds after which a gate opens by itself, so that a failed test ends."""


@dataclass
class Gate:
    """`call` is let through while the gate is open, or raises `error`."""

    inner: Any
    opened: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    seen: list[Any] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.opened.set()

    def call(self, argument: Any) -> Any:
        self.seen.append(argument)
        self.arrived.set()
        self.opened.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return self.inner(argument)

    def shut(self) -> None:
        self.arrived.clear()
        self.opened.clear()

    def wait_for_next(self) -> None:
        """Until somebody stands before the shut gate."""
        assert self.arrived.wait(PATIENCE)


class GatedRunner:
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def run(self, step: Step) -> StepResult:
        result: StepResult = self.gate.call(step)
        return result

    def forget(self, request_id: str) -> None:
        """The ragged lane keeps nothing of a sequence."""


class GatedSource:
    def __init__(self, gate: Gate) -> None:
        self.open = gate.call


@dataclass
class Gated:
    url: str
    client: httpx.Client
    services: Services
    steps: Gate
    loads: Gate

    @property
    def engine(self) -> AsyncEngine:
        engine = self.services.engine
        assert isinstance(engine, AsyncEngine)
        return engine

    def has_computed(self, prompt: list[int]) -> bool:
        """Whether a prompt that fits one chunk was in any step."""
        samples = (one for step in self.steps.seen for one in step.samples)
        return any(list(one.prompt_ids) == prompt for one in samples)


@contextmanager
def gated(base: Path, work: Path, **settings: Any) -> Iterator[Gated]:
    paths = {"adapters_store": work / "store", "cache_dir": work / "cache"}
    (work / "store").mkdir(parents=True)
    share_kernels(paths["cache_dir"])
    given = {"base_model": str(base), "dtype": "float32", "kv_bytes": 16 << 20, **paths}
    services = build_services(Settings(**given | settings))
    core = services.engine._engine
    steps = Gate(core._runner.run)
    core._runner = GatedRunner(steps)
    loads = Gate(core._parts.loader._source.open)
    core._parts.loader._source = GatedSource(loads)
    with serve(create_app(services)) as url, httpx.Client(base_url=url, timeout=60) as client:
        try:
            yield Gated(url, client, services, steps, loads)
        finally:
            steps.opened.set()
            loads.opened.set()
