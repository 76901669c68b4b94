"""The whole application over a real store and a fake engine, in process or on a port."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from service.adapters.limits import AdapterLimits
from service.client import AsyncClient, RetryPolicy
from service.handlers.imports import ImportService
from service.import_metrics import ImportMetrics
from service.settings import Settings
from service.sources.catalog import SourceCatalog
from service.sources.web_reader import WebReader
from tests.adapters.house import House
from tests.adapters.tiny_base import TinyBase
from tests.api.conftest import World


@dataclass
class HouseApp:
    root: Path
    base: TinyBase
    settings: dict[str, Any] = field(default_factory=dict)
    limits: AdapterLimits = field(default_factory=AdapterLimits)
    new_reader: Callable[[], WebReader] = WebReader
    """What fetches from https:// and hf:// sources."""

    def app(self) -> FastAPI:
        house = House(self.root, self.base.description, self.limits, deleted_retention_s=1000)
        visible = house.service.visible
        world = World(base=self.base.description, registry=visible, settings=self.settings)
        app = world.app()
        sources = SourceCatalog(Settings(base_model="tiny", **self.settings), self.new_reader())
        imports = ImportService(house.service, sources, ImportMetrics())

        @asynccontextmanager
        async def running() -> AsyncIterator[None]:
            await house.service.start()
            await world.access.start()
            await imports.start()
            try:
                yield
            finally:
                await imports.close(10.0)
                await house.service.close()

        app.state.services = replace(
            app.state.services, adapters=house.service, imports=imports, running=running
        )
        return app

    @asynccontextmanager
    async def client(
        self, key: str | None = None, retry: RetryPolicy | None = None
    ) -> AsyncIterator[AsyncClient]:
        app = self.app()
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with AsyncClient("http://test", key, retry=retry, transport=transport) as client:
                yield client
