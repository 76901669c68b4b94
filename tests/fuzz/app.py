"""The whole application over a real store and fakes for engine and compiler: cases are cheap."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI
from starlette.testclient import TestClient

from service.access.key_log import KeyLog
from service.access.keys import Key
from service.access.tenants import Tenant, TenantLog
from service.adapters.compiled import CompiledHeader, write_compiled
from service.adapters.compiling import CompileOutcome
from service.adapters.files import CONFIG, VERSION_FILES
from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.adapters.moves import WantedMove
from service.adapters.safetensors_header import MalformedFile, strict_json
from service.adapters.verdict import Verdict, judge
from service.app import create_app
from service.compiler.unpack import unpack
from service.core import AdapterRef
from service.errors import AdapterRefused, Refusal
from service.handlers.import_list import Import
from service.handlers.import_views import Failure, ImportState, ImportView
from service.handlers.imports import ImportService
from service.import_metrics import ImportMetrics
from service.settings import Settings
from service.sources.catalog import SourceCatalog
from service.sources.web_reader import WebReader
from service.tenancy import DEFAULT_TENANT, Role
from tests.adapters.house import House
from tests.api.conftest import World
from tests.fakes import base_description

LIMITS = AdapterLimits(max_upload_bytes=200_000, max_unpacked_bytes=300_000, max_files=8)
EXAMPLE = "date-iso"
"""The name that the OpenAPI document's examples use."""
KEY_ID = "0123456789abcdef"
IMPORT_ID = "0123456789abcdef01234567"
TENANT = "team-a"
ALIASES: Mapping[str, tuple[tuple[int, int], ...]] = {"stable": ((1, 1),)}


class HashCompiler:
    """Accepts every folder with a JSON config and weights; content alone decides the digest."""

    def compile(
        self,
        source: Path,
        work: Path,
        convert_rank: int | None = None,
        *,
        is_stored: bool = False,
    ) -> CompileOutcome:
        folder = source
        if not source.is_dir():
            folder = work / "unpacked"
            folder.mkdir()
            unpack(source, folder, LIMITS)
        try:
            contents = [(folder / name).read_bytes() for name in VERSION_FILES]
            strict_json((folder / CONFIG).read_bytes())
        except (FileNotFoundError, MalformedFile) as error:
            raise AdapterRefused((Refusal("invalid_file", CONFIG, "Unreadable."),)) from error
        manifest = Manifest(
            digest=hashlib.sha256(b"\0".join(contents)).hexdigest(),
            kind="lora",
            rank=4,
            targets=("q_proj",),
            num_bytes=sum(map(len, contents)),
            low_rank_sizes=((8, 2),),
            vector_sizes=(),
            is_summable=True,
        )
        compiled = work / "compiled"
        num_bytes = manifest.payload_bytes("float32")
        header = CompiledHeader(
            manifest.digest, base_description().fingerprint, "float32", num_bytes, ()
        )
        with compiled.open("wb") as file:
            write_compiled(file, header, [b"\0" * num_bytes])
        return CompileOutcome(manifest, folder, VERSION_FILES, compiled, (), ())


class AgreeingVerifier:
    """Finds everything exact; what is verified is another test's concern."""

    async def verify(self, ref: AdapterRef, folder: Path, work: Path) -> Verdict:
        return judge(
            difference=0.0,
            base_difference=0.0,
            dtype="float32",
            quantization="none",
            num_positions=1,
            checked_at=1_700_000_000,
        )


class FuzzedApp:
    def __init__(self, root: Path, **sources: object) -> None:
        """`sources` are settings; by default none is allowed, and no case asks anybody."""
        self.world = World(settings={"max_body_bytes": 1 << 20})
        self.house = House(
            root / "store",
            self.world.base,
            LIMITS,
            cache_bytes=1 << 20,
            verifier=AgreeingVerifier(),
            compiler=HashCompiler(),
        )
        catalog = SourceCatalog(Settings(base_model="tiny", **sources), WebReader())
        self.imports = ImportService(self.house.service, catalog, ImportMetrics())
        self._folders = [_adapter(root / str(seed), seed) for seed in (1, 2)]

    def app(self) -> FastAPI:
        self.world.registry = self.house.service.visible
        services = self.world.app().state.services
        return create_app(replace(services, adapters=self.house.service, imports=self.imports))

    @contextmanager
    def client(self) -> Iterator[TestClient]:
        with TestClient(self.app(), raise_server_exceptions=False) as client:
            client.portal.call(self.house.service.start)
            client.portal.call(self.restore)
            yield client
            client.portal.call(self.imports.close, 0.0)
            client.portal.call(self.house.service.close)

    async def restore(self) -> None:
        """The example is there again, with two versions and an alias, whatever a case has done."""
        access = self.world.access
        if access.book.get(TENANT) is None:
            # Past the use case, which gives no name out twice.
            tenant = Tenant(TENANT, created_at=1)
            state = TenantLog(self.world.logs).put(TENANT, lambda _: tenant)
            access.book.put(TENANT, state)
        key = Key(KEY_ID, TENANT, Role.USE, "", "", created_at=1)
        with suppress(FileExistsError):
            KeyLog(self.world.logs).create(key)
        access.ring.put(key)
        if self.imports._imports.own(IMPORT_ID) is None:
            over = ImportView(
                IMPORT_ID, DEFAULT_TENANT, EXAMPLE, "hf://org/repo", time.time(), finished_at=1e12,
                state=ImportState.FAILED, failure=Failure("AdapterRefused", "No."),
            )  # fmt: skip
            self.imports._imports.add(Import(over, "hf"))
        versions = self.house.store.history(EXAMPLE).versions
        if len(versions) == 2 and {*ALIASES} <= {*self.house.store.history(EXAMPLE).aliases}:
            return
        for folder in self._folders:
            await self.house.publish(EXAMPLE, folder)
        first = min(self.house.store.history(EXAMPLE).versions)
        shares = dict.fromkeys(ALIASES, ((first, 1),))
        await self.house.service.aliases.move(EXAMPLE, WantedMove(None, shares), None)


def upload() -> tuple[bytes, str]:
    """A multipart body that is accepted, and its content type."""
    fields = [f'"name"\r\n\r\n{EXAMPLE}']
    fields += [f'"files"; filename="{file}"\r\n\r\n{{}}' for file in VERSION_FILES]
    parts = [f"--x\r\nContent-Disposition: form-data; name={field}\r\n" for field in fields]
    return "".join([*parts, "--x--\r\n"]).encode(), "multipart/form-data; boundary=x"


def _adapter(folder: Path, seed: int) -> Path:
    folder.mkdir()
    (folder / CONFIG).write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(bytes([seed]) * 16)
    return folder
