"""Pinned names hold what they lead to, through every move, within a limit, over restarts."""

from pathlib import Path

import pytest

from service.adapters.moves import WantedMove
from service.errors import PinLimitExceeded
from service.handlers.adapter_views import AdapterView
from tests.adapters.house import House
from tests.handlers.cheap import cheap_house, folder
from tests.handlers.test_adapters_publish import run

PIN, UNPIN = WantedMove(pinned=True), WantedMove(pinned=False)
SIZE = 128
"""Of every version in memory."""


@pytest.fixture
def house(tmp_path: Path) -> House:
    return cheap_house(tmp_path / "store", pinned_bytes=3 * SIZE)


def held(house: House) -> list[str]:
    return sorted(ref.label for ref in house.pinned)


async def publish(house: House, name: str, *numbers: int) -> None:
    for number in numbers:
        await house.publish(name, folder(house.root.parent, number))


async def move(house: House, name: str, wanted: WantedMove) -> AdapterView:
    return await house.service.aliases.move(name, wanted)


def test_a_pin_holds_the_current_version_and_those_of_the_aliases(house: House) -> None:
    async def scenario() -> None:
        await publish(house, "a", 1, 2, 3)
        view = await move(house, "a", PIN)
        assert (view.pinned, view.is_pin_over_limit) == (True, False)
        assert held(house) == ["a@3"]
        assert {ref.compiled_bytes for ref in house.pinned} == {SIZE}
        await move(house, "a", WantedMove(aliases={"canary": ((1, 95), (3, 5))}))
        assert held(house) == ["a@1", "a@3"]
        pins, versions = house.service.pins, house.store.history("a").versions
        assert [pins.holds("a", versions[n].digest) for n in (1, 2, 3)] == [True, False, True]
        before = pins.revision
        await move(house, "a", UNPIN)
        assert held(house) == []
        assert not pins.holds("a", versions[1].digest)
        assert pins.revision > before

    run(house, scenario)


def test_the_pin_moves_with_the_name(house: House) -> None:
    async def scenario() -> None:
        await publish(house, "a", 1)
        await move(house, "a", PIN)
        await publish(house, "a", 2)
        assert held(house) == ["a@2"]
        await house.service.aliases.rollback("a")
        assert held(house) == ["a@1"]
        await move(house, "a", WantedMove(2, pinned=True))
        assert held(house) == ["a@2"]
        await house.service.delete("a")
        assert held(house) == []
        await publish(house, "a", 1)
        assert not house.service.get("a").pinned

    run(house, scenario)


def test_a_pin_survives_a_restart(house: House) -> None:
    async def scenario() -> None:
        await publish(house, "a", 1, 2)
        await publish(house, "b", 3)
        await move(house, "a", WantedMove(1, pinned=True))

    run(house, scenario)
    again = cheap_house(house.root)

    async def check() -> None:
        assert held(again) == ["a@1"]
        assert [again.service.get(name).pinned for name in "ab"] == [True, False]

    run(again, check)


def test_pins_leave_room_for_others(house: House) -> None:
    async def scenario() -> None:
        for name, number in (("a", 1), ("b", 2), ("c", 3), ("d", 4)):
            await publish(house, name, number)
        for name in "abc":
            await move(house, name, PIN)
        revision = house.service.get("d").revision
        with pytest.raises(PinLimitExceeded, match=r"384 bytes .* 128 that 'd' needs"):
            await move(house, "d", WantedMove(aliases={"x": ((1, 1),)}, pinned=True))
        assert house.service.get("d").revision == revision
        assert held(house) == ["a@1", "b@1", "c@1"]
        await move(house, "b", UNPIN)
        await move(house, "d", PIN)
        assert held(house) == ["a@1", "c@1", "d@1"]

    run(house, scenario)


def test_the_same_content_counts_once(house: House) -> None:
    async def scenario() -> None:
        for name in "abcd":
            await publish(house, name, 1)
            await move(house, name, PIN)
        assert len(house.pinned) == 1

    run(house, scenario)


def test_the_room_does_not_tell_what_others_have_pinned(house: House) -> None:
    """The same bytes as another tenant's need as much room as any."""

    async def scenario() -> None:
        for name, number in (("a", 1), ("b", 2), ("t/same", 1), ("u/same", 1), ("u/other", 3)):
            await publish(house, name, number)
        for name in ("a", "b", "t/same"):
            await move(house, name, PIN)
        for name in ("u/same", "u/other"):
            with pytest.raises(PinLimitExceeded, match=r"384 bytes .* the 128 that"):
                await move(house, name, PIN)
        assert len(house.pinned) == 2

    run(house, scenario)


def test_a_tenant_pins_at_most_half_of_the_budget(house: House) -> None:
    async def scenario() -> None:
        for name, number in (("t/a", 1), ("t/b", 2), ("t/copy", 1)):
            await publish(house, name, number)
        for name in ("t/a", "t/copy"):
            await move(house, name, PIN)
        with pytest.raises(PinLimitExceeded, match=r"one tenant may take 192 .* 128 that 'b'"):
            await move(house, "t/b", PIN)
        await move(house, "t/copy", WantedMove(pinned=False))
        await publish(house, "t/a", 3)
        assert held(house) == ["t/a@2"]

    run(house, scenario)


def test_what_pinned_names_grow_into_is_not_held_and_said_so(house: House) -> None:
    """The upload is served: a pin is no reason to refuse it."""

    async def scenario() -> None:
        for name, number in (("a", 1), ("b", 2), ("c", 3)):
            await publish(house, name, number)
            await move(house, name, PIN)
        await publish(house, "b", 4)
        await move(house, "b", WantedMove(aliases={"old": ((1, 1),)}))
        assert held(house) == ["a@1", "c@1"], "nobody else's pin gives way"
        assert [house.service.get(name).is_pin_over_limit for name in "abc"] == [
            False,
            True,
            False,
        ]
        await move(house, "b", WantedMove(aliases={"old": ()}))
        assert held(house) == ["a@1", "b@2", "c@1"]

    run(house, scenario)


def test_nothing_is_said_to_the_engine_of_names_that_are_not_pinned(house: House) -> None:
    async def scenario() -> None:
        house.pinned = ["untouched"]  # type: ignore[list-item]
        await publish(house, "a", 1, 2)
        await move(house, "a", UNPIN)
        assert house.pinned == ["untouched"]

    run(house, scenario)
