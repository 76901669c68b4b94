"""Looks at names while a change of them is on its way to the disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.adapters.deletions import delete_for, delete_version_for
from service.adapters.lifetime import Lifetime
from service.adapters.naming import Selector
from service.adapters.operations import Restore
from service.core import AdapterRef
from service.errors import AdapterNotFound, ModelNotFound
from service.tenancy import ANYONE
from tests.adapters.house import House
from tests.handlers.cheap import cheap_house, folder
from tests.handlers.test_adapters_publish import run


@pytest.fixture
def house(tmp_path: Path) -> House:
    return cheap_house(tmp_path / "store", deleted_retention_s=86400.0)


async def publish(house: House, name: str, *numbers: int) -> None:
    for number in numbers:
        await house.publish(name, folder(house.root.parent, number))


def models(house: House) -> list[str]:
    return [entry.id for entry in house.service.visible.list_models(ANYONE)]


def listed(house: House) -> list[str]:
    return [view.name for view in house.service.visible.list(ANYONE, None, 10, None)[0]]


def test_what_a_delete_has_just_written_is_left_out_or_not_found(house: House) -> None:
    """The registry still has it, as while the thread that writes it has not come back."""

    async def scenario() -> None:
        await publish(house, "a", 1)
        await publish(house, "b", 2, 3)
        house.store.change("a", lambda history: delete_for("a", history, 1))
        first = Selector("b", number=1)
        house.store.change("b", lambda history: delete_version_for("b", history, first, 1))
        assert house.registry.names() == ["a", "b"]
        assert (models(house), listed(house)) == (["b"], ["b"])
        for model in ("a", "a@1", "b@1"):
            with pytest.raises(ModelNotFound):
                house.service.visible.find_model(ANYONE, model)
        with pytest.raises(AdapterNotFound):
            house.service.get("a")

    run(house, scenario)


def test_a_name_that_goes_while_a_list_is_made_is_left_out_of_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        await publish(house, "b", 2)
        staging = house.stage(folder(house.root.parent, 1))
        await house.service.publish("a", staging, lifetime=Lifetime(ttl_s=3600))
        current = house.registry.usable

        def usable() -> Iterator[AdapterRef]:
            found = list(current())
            house.skipped_s = 3601.0
            return iter(found)

        monkeypatch.setattr(house.registry, "usable", usable)
        monkeypatch.setattr(house.service._directory, "names", lambda *_: iter(["a", "b"]))
        assert (models(house), listed(house)) == (["b"], ["b"])

    run(house, scenario)


def test_a_restore_that_is_on_its_way_does_not_break_the_list_of_what_is_deleted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        await publish(house, "a", 1)
        await house.service.delete("a")
        directory = house.service._directory
        known = directory._is_restorable

        def is_restorable(history: object) -> bool:
            found = known(history)
            house.store.change("a", lambda now: Restore(1) if now.grave else None)
            return found

        monkeypatch.setattr(directory, "_is_restorable", is_restorable)
        assert [view.name for view in directory.list_deleted("default", 10, None)[0]] == ["a"]
        assert directory.list_deleted("default", 10, None)[0] == []

    run(house, scenario)
