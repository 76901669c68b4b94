"""Names that live for a while: gone at once, deleted soon, unless they come to live longer."""

import asyncio
import time
from pathlib import Path

import pytest

from service.adapters.lifetime import MAX_TTL_S, Lifetime
from service.adapters.moves import WantedMove
from service.errors import AdapterNotFound, InvalidRequest, ModelNotFound
from service.tenancy import ANYONE
from tests.adapters.house import House
from tests.handlers.cheap import cheap_house, folder
from tests.handlers.test_adapters_publish import run

HOUR = Lifetime(ttl_s=3600)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return cheap_house(tmp_path / "store", deleted_retention_s=86400.0)


async def publish(
    house: House, number: int, lifetime: Lifetime | None = None, name: str = "a"
) -> bool:
    staging = house.stage(folder(house.root.parent, number))
    return (await house.service.publish(name, staging, lifetime=lifetime)).is_created


async def set_end(house: House, lifetime: Lifetime) -> int | None:
    return (await house.service.aliases.move("a", WantedMove(lifetime=lifetime))).expires_at


def test_a_name_that_is_over_is_gone_before_it_is_deleted(house: House) -> None:
    async def scenario() -> None:
        await publish(house, 1, HOUR)
        await publish(house, 2, name="b")
        assert house.registry.resolve("a").version == 1
        house.skipped_s = 3601.0
        for model in ("a", "a@1"):
            with pytest.raises(ModelNotFound):
                house.registry.acquire(model)
        with pytest.raises(AdapterNotFound):
            house.service.get("a")
        with pytest.raises(AdapterNotFound):
            await set_end(house, HOUR)
        with pytest.raises(AdapterNotFound):
            await house.service.aliases.rollback("a")
        assert [view.name for view in house.service.visible.list(ANYONE, None, 10, None)[0]] == [
            "b"
        ]
        assert [entry.id for entry in house.service.visible.list_models(ANYONE)] == ["b"]
        assert house.store.names() == ["a", "b"]

    run(house, scenario)


def test_the_sweep_deletes_as_a_delete_does(house: House) -> None:
    async def scenario() -> None:
        await publish(house, 1, HOUR)
        end = house.store.history("a").expires_at
        assert await house.service.expiry.sweep(end - 1) == []
        assert await house.service.expiry.sweep(end) == ["a"]
        assert await house.service.expiry.sweep(end) == []
        assert house.store.names() == []
        assert len(house.unloaded) == 1
        view = await house.service.deletions.restore("a")
        assert (view.current.number, view.expires_at) == (1, None)

    run(house, scenario)


def test_a_name_that_cannot_be_deleted_does_not_keep_the_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        await publish(house, 1, HOUR)
        await publish(house, 2, HOUR, name="b")
        deletions = house.service.deletions
        delete = deletions.delete_expired

        async def delete_expired(name: str, now: float) -> bool:
            if name == "a":
                raise ValueError(name)
            return await delete(name, now)

        monkeypatch.setattr(deletions, "delete_expired", delete_expired)
        late = time.time() + 3601
        assert await house.service.expiry.sweep(late) == ["b"]
        monkeypatch.undo()
        assert await house.service.expiry.sweep(late) == ["a"]

    run(house, scenario)


def test_it_sweeps_by_itself(house: House) -> None:
    async def scenario() -> None:
        await publish(house, 1, Lifetime(ttl_s=1))
        for _ in range(400):
            if not house.store.names():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("nobody deletes it")

    run(house, scenario)


def test_what_ended_while_no_server_ran_is_deleted_at_the_start(house: House) -> None:
    async def scenario() -> None:
        await publish(house, 1, HOUR)
        assert house.service.get("a").expires_at is not None

    run(house, scenario)
    again = cheap_house(house.root, skipped_s=3601.0)

    async def check() -> None:
        with pytest.raises(ModelNotFound):
            again.registry.acquire("a")
        for _ in range(200):
            if not again.store.names():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("nobody deletes it")

    run(again, check)


def test_the_end_is_set_moved_and_taken_away(house: House) -> None:
    async def scenario() -> None:
        now = int(time.time())
        await publish(house, 1)
        assert house.service.get("a").expires_at is None
        assert await set_end(house, Lifetime(expires_at=now + 500)) == now + 500
        assert now + 3600 <= await set_end(house, HOUR) <= now + 3602
        assert await set_end(house, Lifetime()) is None
        revision = house.service.get("a").revision
        await set_end(house, Lifetime())
        assert house.service.get("a").revision == revision, "nothing has changed"

    run(house, scenario)


def test_who_comes_to_live_longer_is_not_swept(house: House) -> None:
    async def scenario() -> None:
        await publish(house, 1, HOUR)
        late = time.time() + 3601
        await set_end(house, Lifetime(ttl_s=7200))
        assert await house.service.expiry.sweep(late) == []
        assert not await house.service.deletions.delete_expired("a", late)

    run(house, scenario)


def test_uploads_leave_the_end_unless_they_say_one(house: House) -> None:
    async def scenario() -> None:
        await publish(house, 1, HOUR)
        end = house.service.get("a").expires_at
        await publish(house, 2)
        assert house.service.get("a").expires_at == end
        assert not await publish(house, 2, Lifetime(ttl_s=7200)), "the content is current"
        assert house.service.get("a").expires_at > end
        await publish(house, 1, HOUR)
        assert house.service.get("a").expires_at < end + 3000

    run(house, scenario)


def test_an_upload_after_the_end_begins_anew(house: House) -> None:
    async def scenario() -> None:
        await publish(house, 1, HOUR)
        await house.service.aliases.move("a", WantedMove(aliases={"x": ((1, 1),)}))
        house.skipped_s = 3601.0
        await publish(house, 2)
        view = house.service.get("a")
        assert (view.current.number, view.expires_at, view.aliases) == (2, None, {})

    run(house, scenario)


@pytest.mark.parametrize("seconds", [-1, 0, MAX_TTL_S + 60])
def test_an_end_is_in_the_future_and_not_too_far(house: House, seconds: int) -> None:
    async def scenario() -> None:
        await publish(house, 1)
        lifetime = Lifetime(expires_at=int(time.time()) + seconds)
        with pytest.raises(InvalidRequest, match="expires_at"):
            await set_end(house, lifetime)
        with pytest.raises(InvalidRequest, match="expires_at"):
            await publish(house, 2, lifetime)
        assert len(house.service.get("a").versions) == 1

    run(house, scenario)
