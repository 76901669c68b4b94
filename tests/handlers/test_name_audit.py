"""What happens to adapters is in the audit log: only what was changed, and only what succeeded."""

import asyncio
import itertools
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.adapters.moves import WantedMove
from service.adapters.naming import Selector
from service.errors import PreconditionFailed, UnknownTarget
from service.handlers.audit import Actor, AuditEntry, AuditLog, act_for
from tests.adapters.house import House, run

Lora = Callable[[int], Path]


async def entries(house: House, tenant: str | None = None) -> list[AuditEntry]:
    today = datetime.now(UTC).date()
    page = await AuditLog(house.store.logs).page(today, today, 1000, None, tenant)
    return [entry for _, entry in page.entries]


async def steps(house: House) -> list[tuple[str, str, Any, Any]]:
    return [(one.action, one.target, one.before, one.after) for one in await entries(house)]


def test_every_change_of_a_name_is_recorded(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        service = house.service
        act_for(Actor("default", "k1", "req-1"))
        one = f"sha256:{(await house.publish('a', lora(1))).version.digest}"
        two = f"sha256:{(await house.publish('a', lora(2))).version.digest}"
        shares = ((1, 95), (2, 5))
        await service.aliases.move("a", WantedMove(1, {"canary": shares}))
        await service.aliases.rollback("a")
        await service.aliases.move("a", WantedMove(aliases={"canary": ()}))
        await service.deletions.delete_version(Selector("a", number=1))
        await service.delete("a")
        done = [step for step in await steps(house) if step[0] != "gc"]
        assert done == [
            (
                "adapter.publish",
                "a",
                {},
                {"current": 1, "versions.1": one},
            ),
            ("adapter.publish", "a", {"current": 1}, {"current": 2, "versions.2": two}),
            (
                "adapter.move",
                "a",
                {"current": 2},
                {"current": 1, "aliases.canary": {"1": 95, "2": 5}},
            ),
            ("adapter.rollback", "a", {"current": 1}, {"current": 2}),
            ("adapter.move", "a", {"aliases.canary": {"1": 95, "2": 5}}, {}),
            ("version.delete", "a", {"versions.1": one}, {}),
            (
                "adapter.delete",
                "a",
                {"current": 2, "versions.2": two},
                {},
            ),
        ]
        assert {one.actor for one in await entries(house)} == {Actor("default", "k1", "req-1")}

    run(house, scenario)


def test_what_changes_nothing_or_fails_is_not_recorded(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        await house.publish("a", lora(1))
        await house.publish("a", lora(1))
        await house.service.aliases.move("a", WantedMove(1))
        with pytest.raises(UnknownTarget):
            await house.service.aliases.move("a", WantedMove(7))
        with pytest.raises(PreconditionFailed):
            await house.service.deletions.delete("a", expected={99})
        assert [step[0] for step in await steps(house)] == ["adapter.publish"]

    run(house, scenario)


def test_a_tenants_adapter_is_its_own_business(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        await house.publish("red/a", lora(1))
        await house.service.aliases.move("red/a", WantedMove(visibility=("blue",)))
        published, shared = await entries(house, "red")
        assert (published.tenant, published.target) == ("red", "a")
        assert (published.action, shared.action) == ("adapter.publish", "adapter.share")
        assert (shared.before, shared.after) == ({}, {"visibility": ["blue"]})
        assert await entries(house, "blue") == await entries(house, "default") == []

    run(house, scenario)


def test_folders_taken_over_at_the_start_are_the_servers_doing(house: House, lora: Lora) -> None:
    folder = house.root / "shipped"
    folder.mkdir()
    for path in lora(1).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())

    async def scenario() -> None:
        (entry,) = await entries(house)
        assert (entry.action, entry.target) == ("adapter.publish", "shipped")
        assert entry.actor.key_id == "server"

    run(house, scenario)


def test_a_folder_is_recorded_before_the_next_is_judged(
    house: House, lora: Lora, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        shutil.copytree(lora(1), house.root / name)
    compiler = house.service._compiler
    compile_one, num_compiled = compiler.compile, itertools.count()

    def compile_once(*arguments: Any) -> Any:
        if next(num_compiled):
            raise RuntimeError("a crash")
        return compile_one(*arguments)

    monkeypatch.setattr(compiler, "compile", compile_once)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="a crash"):
            await house.service.start()
        assert [one.target for one in await entries(house)] == ["one"]
        await house.service.close()

    asyncio.run(main())


def test_what_a_collection_gives_up_is_recorded(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        await house.publish("a", lora(1))
        await house.service.delete("a")
        await house.service.deletions.collect()
        await house.service._changes.settled()
        found = [one for one in await entries(house) if one.action == "gc"]
        assert found[0].before == {"versions": ["a@1"]}
        assert found[0].after["objects"] == 1
        assert found[0].after["bytes"] > 0

    run(house, scenario)
