"""Imports into a control plane whose uploads cost nothing, from servers on loopback."""

import io
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.adapters.backends.import_board import ImportBoard
from service.adapters.origin import Origin
from service.handlers.adapters import Terms
from service.handlers.import_views import ImportState, ImportView
from service.handlers.imports import ImportPace, ImportService, Wanted
from service.import_metrics import ImportMetrics
from service.settings import Settings
from service.sources.catalog import SourceCatalog
from service.tenancy import DEFAULT_TENANT, OF_SETTINGS
from tests.adapters.house import House, run
from tests.handlers.cheap import cheap_house
from tests.sources.https_server import QUICK, HttpsServer
from tests.waiting import until_async


def archive(number: int = 1, **more: bytes) -> bytes:
    """Of an adapter of its own for each number."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("adapter_config.json", f'{{"number": {number}}}')
        opened.writestr("adapter_model.safetensors", b"\0" * 5000)
        for name, data in more.items():
            opened.writestr(name, data)
    return packed.getvalue()


@dataclass
class Importing:
    server: HttpsServer
    root: Path
    settings: dict[str, Any] = field(default_factory=dict)
    pace: ImportPace = field(default_factory=ImportPace)
    board: ImportBoard | None = None
    house_options: dict[str, Any] = field(default_factory=dict)
    reader_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.house: House = cheap_house(self.root, **self.house_options)
        self.metrics = ImportMetrics()
        given = {"source_hosts": self.server.host()} | self.settings
        self.catalog_settings = Settings(base_model="x", **given)

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            reader = self.server.reader(**self.reader_options)
            sources = SourceCatalog(self.catalog_settings, reader, QUICK)
            self.imports = ImportService(
                self.house.service, sources, self.metrics, self.board, self.pace, self.house._now
            )
            await self.imports.start()
            try:
                await scenario()
            finally:
                await self.imports.close(5.0)

        run(self.house, whole)

    async def begin(
        self, source: str, name: str = "a", tenant: str = DEFAULT_TENANT, **more: Any
    ) -> ImportView:
        wanted = Wanted(tenant, name, more.get("rank"), more.get("terms", Terms()))
        return await self.imports.begin(source, wanted)

    async def at(self, view: ImportView, *states: ImportState) -> ImportView:
        """As it is when it has come to one of these states; by default, to its end."""

        def is_there() -> bool:
            one = self.imports._imports.own(view.id)
            assert one is not None
            return one.view.state in states if states else one.view.state.is_over

        await until_async(is_there)
        return await self.imports.get(OF_SETTINGS, view.id)

    async def done(self, source: str, name: str = "a", **more: Any) -> ImportView:
        return await self.at(await self.begin(source, name, **more))

    def origin(self, name: str, number: int) -> Origin | None:
        return self.house.store.history(name).versions[number].origin

    def is_clean(self) -> bool:
        """Nothing of an upload is left, on the disk or in a count."""
        uploads = self.house.service.intake._uploads
        is_counted = uploads.num_bytes or uploads._num_open or +uploads._counted
        return not is_counted and not list(self.house.store.temporary.glob("upload-*"))

    def samples(self) -> dict[str, float]:
        return {
            " ".join([sample.name.removeprefix("repertoire_"), *sample.labels.values()]): (
                sample.value
            )
            for family in self.metrics.collect()
            for sample in family.samples
        }
