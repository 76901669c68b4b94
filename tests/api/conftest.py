"""An application over fakes, in process and behind a real server."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import httpx
import pytest
import structlog
import uvicorn
from fastapi import FastAPI

from service.access.keys import Key, Secret
from service.access.tenants import Tenant, TenantState
from service.adapters.backends.counters import Counters
from service.adapters.backends.memory_counters import MemoryCounters
from service.adapters.registry import AdapterRegistry
from service.api.dependencies import BuildInfo, Services
from service.app import create_app
from service.base import BaseDescription
from service.handlers.access import Access
from service.handlers.audit import AuditLog
from service.handlers.generation import GenerationHandler
from service.handlers.lifecycle import Lifecycle
from service.handlers.models import ModelCatalog
from service.handlers.quotas import QuotaGuard
from service.handlers.replica import Replica
from service.handlers.residency import ResidencyReader
from service.handlers.usage import UsageLedger
from service.handlers.warming import Warmer
from service.metrics import Metrics
from service.settings import Settings
from service.telemetry import Telemetry, Tracer, configure_logging
from service.tenancy import UNLIMITED, Role, TenantLimits
from tests.fakes import (
    FakeEngine,
    FakeOwners,
    FakePlaces,
    FakeRegistry,
    FakeTexts,
    MemoryLogs,
    MemoryUsage,
    adapter_ref,
    base_description,
)
from tests.waiting import until


@dataclass
class World:
    """Everything a test may want to look at."""

    engine: FakeEngine = field(default_factory=FakeEngine)
    registry: FakeRegistry = field(
        default_factory=lambda: FakeRegistry(
            adapter_ref("alpha", 1), adapter_ref("alpha", 2), adapter_ref("beta", 7)
        )
    )
    texts: FakeTexts = field(default_factory=FakeTexts)
    base: BaseDescription = field(default_factory=base_description)
    settings: dict[str, Any] = field(default_factory=dict)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    limits: TenantLimits = UNLIMITED
    counters: Counters = field(default_factory=MemoryCounters)
    logs: MemoryLogs = field(default_factory=MemoryLogs)
    owners: FakeOwners = field(default_factory=FakeOwners)
    places: FakePlaces = field(default_factory=FakePlaces)
    names: AdapterRegistry = field(default_factory=AdapterRegistry)
    """For what tells of adapters, where `registry` binds requests to them."""
    tracer: Tracer | None = None

    @cached_property
    def access(self) -> Access:
        """The settings and the limits must be made before."""
        keys = Settings(base_model="tiny", **self.settings).api_keys()
        return Access.over(self.logs, self.audit, keys, self.owners, default_limits=self.limits)

    def new_key(self, tenant: str, role: Role, min_priority: int = 0) -> str:
        """Of a tenant that is there from now on."""
        if self.access.book.get(tenant) is None:
            self.access.book.put(tenant, TenantState(Tenant(tenant, created_at=0)))
        secret = Secret.new()
        key = Key(secret.id, tenant, role, secret.digest, secret.ending, created_at=0)
        self.access.ring.put(replace(key, min_priority=min_priority))
        return secret.text

    @cached_property
    def residency(self) -> ResidencyReader:
        replica = Replica(self.engine, self.names, self.places, self.places)
        return ResidencyReader("replica-1", replica)

    @cached_property
    def usage(self) -> UsageLedger:
        return UsageLedger(MemoryUsage(), self.base.name, flush_s=3600.0)

    @cached_property
    def audit(self) -> AuditLog:
        return AuditLog(self.logs)

    def app(self) -> FastAPI:
        settings = Settings(base_model="tiny", **self.settings)
        metrics = Metrics(self.engine.stats)
        services = Services(
            settings=settings,
            base=self.base,
            build=BuildInfo("0.1.0", "2.11.0", "cpu", base_created=1_600_000_000),
            generation=GenerationHandler(
                self.base,
                self.texts,
                self.registry,
                self.engine,
                metrics,
                sinks=[self.usage.count],
                quotas=QuotaGuard(self.counters, self.access.limits_of),
            ),
            adapters=None,
            imports=None,
            models=ModelCatalog(self.base, 1_600_000_000, self.registry),
            engine=self.engine,
            warmer=Warmer(self.registry, self.engine),
            residency=self.residency,
            telemetry=Telemetry(metrics, structlog.get_logger("repertoire"), self.tracer),
            lifecycle=self.lifecycle,
            access=self.access,
            audit=self.audit,
            usage=self.usage,
        )
        return create_app(services)

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app(), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    def is_all_given_back(self) -> bool:
        """Every adapter version released once, every sequence closed."""
        submitted = sorted(one.request_id for one in self.engine.submitted)
        is_closed = sorted(self.engine.closed) == submitted
        return is_closed and self.registry.released == self.registry.acquired

    def assert_all_given_back(self) -> None:
        """The server cleans up after the client has read the last byte."""
        wait_until(self.is_all_given_back)


@pytest.fixture(autouse=True, scope="session")
def _logging() -> None:
    configure_logging("warning", "json")


@pytest.fixture
def world() -> World:
    return World()


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """A real server on a free loopback port, in a thread; yields its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def wait_until(is_true: Callable[[], bool], seconds: float = 5.0) -> None:
    until(is_true, seconds)


def run(work: Any) -> Any:
    return asyncio.run(work)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("REPERTOIRE_") or name == "PORT":
            monkeypatch.delenv(name)
