"""What the store of a fleet lies on: a folder here, or a bucket of moto in this process."""

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import httpx

from tests.fleet.answers import TASKS
from tests.s3_server import CREDENTIALS, S3Server
from tests.server import ROOT


@dataclass(frozen=True, slots=True)
class FleetStore:
    settings: Mapping[str, object]
    """Of each replica."""
    objects: S3Server | None = None
    """None: it lies in a folder, which is never away."""

    async def fill(self, clients: Sequence[httpx.AsyncClient]) -> None:
        """With the demo adapters, until every replica knows them; a folder has them already."""
        if self.objects is not None:
            for task in TASKS:
                await _upload(clients[0], task)
            for client in clients:
                for task in TASKS:
                    await _wait_until_known(client, task)


@contextmanager
def folder_store(work: Path) -> Iterator[FleetStore]:
    store = work / "store"
    store.mkdir(parents=True)
    for task in TASKS:
        shutil.copytree(ROOT / "adapters_store" / task, store / task)
    yield FleetStore({"adapters_store": store})


@contextmanager
def bucket_store(work: Path) -> Iterator[FleetStore]:
    """Replicas find out soon when it is away, and are let in by the environment that they get."""
    with mock.patch.dict(os.environ, CREDENTIALS), S3Server() as server:
        settings = {
            "adapters_store": f"s3://{server.new_bucket()}/fleet",
            "s3_endpoint_url": server.url,
            "store_poll_s": 2,
        }
        yield FleetStore(settings, server)


async def _upload(client: httpx.AsyncClient, task: str) -> None:
    paths = (ROOT / "adapters_store" / task).iterdir()
    files = [("files", (path.name, path.read_bytes())) for path in sorted(paths)]
    answer = await client.post("/v1/adapters", data={"name": task}, files=files)
    answer.raise_for_status()


async def _wait_until_known(client: httpx.AsyncClient, task: str) -> None:
    async with asyncio.timeout(60):
        while (await client.get(f"/v1/models/{task}")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
