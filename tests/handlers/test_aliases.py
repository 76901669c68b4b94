"""Pointers of a name, from the store to the registry, and after a restart."""

import asyncio
import shutil
from collections.abc import Callable

import pytest

from service.adapters.moves import WantedMove
from service.errors import AdapterNotFound, ModelNotFound, NameConflict, PreconditionFailed
from service.tenancy import ANYONE
from tests.adapters.house import House, run
from tests.handlers.test_adapters_publish import Lora, reopened

ONE, TWO = ((1, 1),), ((2, 1),)


def with_two_versions(house: House, lora: Lora, scenario: Callable) -> None:
    async def main() -> None:
        for seed in (1, 2):
            await house.publish("a", lora(seed))
        await scenario()

    run(house, main)


def test_pointers_move_together_and_survive_a_restart(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        view = await house.service.aliases.move(
            "a", WantedMove(1, {"stable": ONE, "canary": ((1, 95), (2, 5))})
        )
        assert (view.current.number, view.revision) == (1, 3)
        assert house.registry.resolve("a").version == 1
        assert house.registry.resolve("a@stable").version == 1
        await house.service.aliases.move("a", WantedMove(aliases={"stable": TWO}))
        assert house.registry.resolve("a@stable").version == 2
        await house.service.aliases.move("a", WantedMove(aliases={"canary": ()}))

    with_two_versions(house, lora, scenario)
    again = reopened(house)

    async def check() -> None:
        assert again.registry.resolve("a").version == 1
        assert again.registry.resolve("a@stable").version == 2
        assert again.service.visible.find_model(ANYONE, "a@stable").version == 2
        with pytest.raises(ModelNotFound):
            again.registry.resolve("a@canary")
        view = again.service.get("a")
        assert (view.aliases, view.revision) == ({"stable": TWO}, 5)

    run(again, check)


def test_of_two_who_saw_the_same_one_is_first(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        seen = {house.service.get("a").revision}
        moves = [
            house.service.aliases.move("a", WantedMove(aliases={"x": shares}), seen)
            for shares in (ONE, TWO, ONE, TWO)
        ]
        results = await asyncio.gather(*moves, return_exceptions=True)
        assert sorted(type(one).__name__ for one in results) == [
            "AdapterView",
            *["PreconditionFailed"] * 3,
        ]
        with pytest.raises(PreconditionFailed):
            await house.service.aliases.rollback("a", seen)

    with_two_versions(house, lora, scenario)


def test_another_writer_of_the_journal_is_noticed(house: House, lora: Lora) -> None:
    """As a second process over the same folder would be: its record is there first."""

    async def scenario() -> None:
        seen = {house.service.get("a").revision}
        journal = house.root / ".repertoire" / "journal" / "a"
        (journal / "0000000002.json").write_text('{"op": "point", "number": 1, "created_at": 7}')
        with pytest.raises(PreconditionFailed):
            await house.service.aliases.move("a", WantedMove(aliases={"x": ONE}), seen)
        view = await house.service.aliases.move("a", WantedMove(aliases={"x": ONE}))
        assert (view.current.number, view.revision) == (1, 4)

    with_two_versions(house, lora, scenario)


def test_rollback_walks_back_and_says_when_it_is_over(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        aliases = house.service.aliases
        await aliases.move("a", WantedMove(1))
        assert (await aliases.rollback("a")).current.number == 2
        assert (await aliases.rollback("a")).current.number == 1
        assert house.registry.resolve("a").version == 1
        with pytest.raises(NameConflict, match="before version 1"):
            await aliases.rollback("a")
        with pytest.raises(AdapterNotFound):
            await aliases.rollback("nobody")

    with_two_versions(house, lora, scenario)


def test_a_bound_request_stays_on_its_version(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        await house.service.aliases.move("a", WantedMove(aliases={"x": ONE}))
        bound = house.registry.acquire("a@x")
        await house.service.aliases.move("a", WantedMove(aliases={"x": TWO}))
        assert bound.version == 1
        assert house.registry.in_use(bound.digest) == 1
        house.registry.release(bound)

    with_two_versions(house, lora, scenario)


def test_no_pointer_moves_to_damaged_content(house: House, lora: Lora) -> None:
    def damage() -> None:
        digest = house.registry.resolve("a@1").digest
        shutil.rmtree(house.store.object_folder(digest))

    async def scenario() -> None:
        damage()

    with_two_versions(house, lora, scenario)
    again = reopened(house)

    async def check() -> None:
        for change in (WantedMove(1), WantedMove(aliases={"x": ((1, 1), (2, 1))})):
            with pytest.raises(NameConflict, match="a@1 is damaged"):
                await again.service.aliases.move("a", change)
        with pytest.raises(NameConflict, match="damaged"):
            await again.service.aliases.rollback("a")
        assert again.registry.resolve("a").version == 2

    run(again, check)
