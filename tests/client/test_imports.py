"""Imports by both clients against the application."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.client import Client, Forbidden, NotFound
from service.client.results.imports import Import
from tests.api.conftest import run, serve
from tests.client.house_app import HouseApp

Loras = Callable[[int], Path]


@pytest.fixture
def importing(house: HouseApp, lora: Loras, tmp_path: Path) -> HouseApp:
    shutil.copytree(lora(1), tmp_path / "root" / "one")
    house.settings["source_root"] = tmp_path / "root"
    return house


def test_an_import_is_begun_waited_for_and_listed(importing: HouseApp) -> None:
    seen: list[Import] = []

    async def walk() -> None:
        async with importing.client() as client:
            begun = await client.imports.begin("a", "one", ttl_s=100)
            assert not begun.is_over
            over = await client.imports.wait(begun.id, on_progress=seen.append, every_s=0.01)
            assert over.error is None
            assert over.result is not None
            assert (over.state, over.result.version) == ("ready", 1)
            assert await client.imports.get(begun.id) == over
            assert await client.imports.stop(begun.id) == over
            assert [one async for one in client.imports.list()] == [over]
            shown = await client.adapters.get("a")
            assert shown.expires_at is not None
            assert shown.current is not None
            assert shown.current.origin is not None
            assert shown.current.origin.source == "one"

    run(walk())
    assert all(one.id == seen[0].id and not one.is_over for one in seen)


def test_the_blocking_client_waits_too(importing: HouseApp) -> None:
    with serve(importing.app()) as url, Client(url) as client:
        begun = client.imports.begin("a", "nothing")
        over = client.imports.wait(begun.id, every_s=0.01)
        assert over.error is not None
        assert (over.state, over.error.code) == ("failed", "source_not_found")
        with pytest.raises(Forbidden, match="--source-hosts"):
            client.imports.begin("a", "https://files.test/a.zip")
        with pytest.raises(NotFound):
            client.imports.get("0" * 24)
